"""Federated learning of image methods: how data is dealt to parties, their rounds, what the server makes of them."""

from .average import weighted_mean
from .engine import Engine, EngineConfig, InProcess
from .flower import Flower
from .local import ModelContrast, Proximal
from .partitions import ByEnv, ByEpisode, ByLabel, Dirichlet, Iid, Partition
from .party import Lost, Reply, Setup, train_party
from .server import Server

__all__ = [
    "ByEnv",
    "ByEpisode",
    "ByLabel",
    "Dirichlet",
    "Engine",
    "EngineConfig",
    "Flower",
    "Iid",
    "InProcess",
    "Lost",
    "ModelContrast",
    "Partition",
    "Proximal",
    "Reply",
    "Server",
    "Setup",
    "train_party",
    "weighted_mean",
]
