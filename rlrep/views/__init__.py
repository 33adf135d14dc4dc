"""Augmentations: batched, per sample, on the observation's device."""

from .base import View
from .image import NoAugment, RandomCrop, RandomShift, centre_crop, crop
from .state import AmplitudeScale, NoChange

__all__ = ["AmplitudeScale", "NoAugment", "NoChange", "RandomCrop", "RandomShift", "View", "centre_crop", "crop"]
