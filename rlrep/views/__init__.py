"""Augmentations: batched, per sample, on the observation's device."""

from .base import View
from .compose import ImageView, multi_view
from .corrupt import Mask, PixelNoise
from .image import CropPadCrop, NoAugment, RandomCrop, RandomShift, ShiftIntensity, centre_crop, crop
from .ops import Blur, ColourJitter, Flip, Grayscale, ResizedCrop, Solarise
from .state import AmplitudeScale, NoChange

__all__ = [
    "AmplitudeScale",
    "Blur",
    "ColourJitter",
    "CropPadCrop",
    "Flip",
    "Grayscale",
    "ImageView",
    "Mask",
    "NoAugment",
    "NoChange",
    "PixelNoise",
    "RandomCrop",
    "RandomShift",
    "ResizedCrop",
    "ShiftIntensity",
    "Solarise",
    "View",
    "centre_crop",
    "crop",
    "multi_view",
]
