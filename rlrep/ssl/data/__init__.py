"""Image data sets as configs. Nothing is downloaded: a missing path says what to put there."""

from .archive import Cifar10
from .describe import describe
from .digits import Digits
from .files import ImageArrays, ImageFolder
from .frames import FrameFile, Frames, FrameSettings, read_frames, save_frames
from .image_data import DataConfig, ImageData, LabelSettings, Split, SplitSettings
from .mnist5k import Mnist5k
from .moving_digits import MovingDigits
from .stored import Images, StoredImages

__all__ = [
    "Cifar10",
    "DataConfig",
    "Digits",
    "FrameFile",
    "FrameSettings",
    "Frames",
    "ImageArrays",
    "ImageData",
    "ImageFolder",
    "Images",
    "LabelSettings",
    "Mnist5k",
    "MovingDigits",
    "Split",
    "SplitSettings",
    "StoredImages",
    "describe",
    "read_frames",
    "save_frames",
]
