"""Where runs run: this machine, in one process or many, Slurm, Ray."""

from .fleet import Fleet
from .local import Local
from .ray_cluster import Ray
from .slurm import Slurm

LauncherConfig = Local | Fleet | Slurm | Ray
"""Settings of a launcher; the first is what a config without a name of one means."""

__all__ = ["Fleet", "LauncherConfig", "Local", "Ray", "Slurm"]
