"""A saved ResNet under the names that torchvision gives to its own, for what reads those."""

import re

from torch import Tensor

from .encoder_file import EncoderFile

_PARTS = {"norm1": "bn1", "norm2": "bn2", "shortcut": "downsample"}
_TOP = {"stem": "conv1", "norm": "bn1"}


def torchvision_names(found: EncoderFile) -> dict[str, Tensor]:
    """Return the tensors of a ResNet's body by torchvision's names, without `fc`.

    They fit `torchvision.models.resnet18(num_classes=N)` whose `conv1` is a 3x3 convolution of stride 1, padding 1 and
    no bias, and whose `maxpool` is `nn.Identity()`, at colours in [0, 1]: load them by `load_state_dict(...,
    strict=False)`. found: of `read_encoder`. Raises ValueError on an encoder of another kind.
    """
    if found.architecture["kind"] != "ResNetConfig":
        raise ValueError(f"{found.path} holds {found.architecture['kind']}; torchvision's names are a ResNet's")
    counts = found.architecture["blocks"]
    places = [(stage, block) for stage, count in enumerate(counts, 1) for block in range(count)]
    body = {name.removeprefix("body."): t for name, t in found.tensors.items() if name.startswith("body.")}
    return {_renamed(name, places): tensor for name, tensor in body.items()}


def _renamed(name: str, places: list[tuple[int, int]]) -> str:
    inner = re.fullmatch(r"stages\.(\d+)\.(\w+)\.(.+)", name)
    if inner is None:
        top, _, rest = name.partition(".")
        return f"{_TOP[top]}.{rest}"
    stage, block = places[int(inner[1])]
    return f"layer{stage}.{block}.{_PARTS.get(inner[2], inner[2])}.{inner[3]}"
