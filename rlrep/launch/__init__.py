"""Where runs run: this machine, Slurm, Ray."""

from .local import Local
from .ray_cluster import Ray
from .slurm import Slurm

LauncherConfig = Local | Slurm | Ray
"""Settings of a launcher; the first is what a config without a name of one means."""

__all__ = ["LauncherConfig", "Local", "Ray", "Slurm"]
