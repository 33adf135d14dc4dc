"""Networks of the package timm as encoders of frames. timm is no dependency: `pip install 'rlrep[timm]'`."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from torch import Tensor

from .encoders import Encoder, FrameEncoder, PixelBody, Section, Trunk, interleaved


class TimmBody(PixelBody):
    """A network of timm without its classifier: pixels in [0, 1] to its pooled features `(B, F)`."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network: Any = network

    def forward(self, obs: Tensor) -> Tensor:
        """Map uint8 `(B, C, H, W)`, or floats in [0, 255], to features."""
        return self.features(self._maps(obs))

    def sections(self) -> list[Section]:
        """Return the network as one part: where one of timm's could be taken apart, it does not say."""
        return [Section((self.network,), self._maps)]

    def features(self, maps: Tensor) -> Tensor:
        """Pool the maps, or the tokens, as the network does before its classifier."""
        pooled: Tensor = self.network.forward_head(maps, pre_logits=True)
        return pooled.flatten(1)

    def _maps(self, obs: Tensor) -> Tensor:
        maps: Tensor = self.network.forward_features(self.prepare(obs) / 255)
        return maps

    def prepare(self, obs: Tensor) -> Tensor:
        """Return floats in channels-last order, of the network's own precision."""
        return interleaved(obs, next(self.network.parameters()).dtype)


def _timm() -> Any:
    if find_spec("timm") is None:
        raise ValueError("encoder=timm needs the package timm, which is not installed: pip install 'rlrep[timm]'")
    try:
        import timm
    except (ImportError, RuntimeError, OSError) as error:  # torchvision's operators are of another build than torch
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"timm cannot be imported ({reason}): install the torchvision that is of this torch's release and index"
        ) from error
    return timm


@dataclass(frozen=True)
class TimmConfig(FrameEncoder):
    """A network of timm by its name there (Wightman 2019), with weights drawn anew: nothing is downloaded.

    name: as `timm.list_models()` shows it. img_size: side of the frames, for transformers, whose position embeddings
    need it; None = the network takes frames of any size. trunk, latent_dim: as for `PixelEncoderConfig`.
    """

    name: str
    img_size: int | None = None
    latent_dim: int = 50
    trunk: Trunk = "none"

    def build(self, obs_shape: tuple[int, ...]) -> Encoder:
        """Build for frames `(C, H, W)`. Raises ValueError without timm, on unknown names, frames that do not fit."""
        try:
            return super().build(obs_shape)
        except AssertionError as error:  # how timm says that a frame is of another size than the network
            raise ValueError(f"encoder.name={self.name}: {error}: give encoder.img_size={obs_shape[-1]}") from error

    def make_body(self, channels: int) -> PixelBody:
        """Return timm's network, its batch norm on running statistics as `ResNetConfig`'s is."""
        timm = _timm()
        if not timm.is_model(self.name):
            close = ", ".join(timm.list_models(f"*{self.name}*")[:5]) or "see timm.list_models()"
            raise ValueError(f"encoder.name={self.name} is no network of timm {timm.__version__}: {close}")
        sized = {} if self.img_size is None else {"img_size": self.img_size}
        try:
            return TimmBody(timm.create_model(self.name, in_chans=channels, num_classes=0, **sized)).eval()
        except TypeError as error:
            raise ValueError(f"encoder.name={self.name} cannot be made so: {error}") from error
