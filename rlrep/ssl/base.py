"""What a method is: an encoder with what it is trained through, a loss of a batch of views, and what follows a step."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from rlrep.contrast import gather_with_grad
from rlrep.contrast.parts import Metrics
from rlrep.nn import Encoder
from rlrep.views import View

from .batch import DataShape, ImageBatch, Needs
from .data import ImageData, Images

Precision = Literal["float32", "bf16"]


class Method(nn.Module):
    """A network under self-supervision. `online`: the encoder and, behind it, what maps its latent to embeddings.

    Every parameter that requires gradient belongs to the optimiser. With a process group, `loss` is that of the joint
    batch of all processes; the mean of the processes' gradients is its gradient.

    sync_batch_norm: whether GPUs share batch-norm statistics. progress: share of training that is done, in [0, 1].
    precision: of the forward passes in training.
    """

    needs: Needs
    sync_batch_norm = True
    progress = 0.0
    precision: Precision = "float32"

    def __init__(self, encoder: Encoder, projector: nn.Module) -> None:
        super().__init__()
        self.online = nn.Sequential(OrderedDict(encoder=encoder, projector=projector))

    @property
    def encoder(self) -> Encoder:
        """The network that pretraining is for."""
        encoder = self.online.get_submodule("encoder")
        assert isinstance(encoder, Encoder)
        return encoder

    def embed(self, images: Tensor) -> Tensor:
        """Return the embeddings `(N, D)` of images `(N, C, H, W)`, uint8 or float in [0, 255]."""
        embeddings: Tensor = self.online(images)
        return embeddings

    def loss(self, batch: ImageBatch) -> tuple[Tensor, Metrics]:
        """Return the scalar loss and health metrics. It reads state and changes none, batch norm's aside."""
        raise AssertionError(f"{type(self).__name__} has no loss")

    def gradients(self, batch: ImageBatch, parameters: Sequence[Tensor]) -> tuple[list[Tensor], Metrics]:
        """Return the gradient of the loss for each parameter, and the metrics with the `loss`.

        A method that need not hold the whole graph at once says here how it goes part by part.
        """
        with self.autocast(batch):
            loss, metrics = self.loss(batch)
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        gradients = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
        return gradients, {"loss": loss.detach(), **metrics}

    def autocast(self, batch: ImageBatch) -> torch.autocast:
        """Return the context in which a forward pass of a batch has the run's precision."""
        return torch.autocast(batch.views[0].device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def prepare(self, data: ImageData, labels: Tensor | None, view: View) -> None:
        """Read the training data once before the first update.

        labels: int64 `(N,)`, the classes, where `needs.labels`. view: the first one, whose fixed form is evaluated.
        """

    def logits(self, images: Tensor) -> Tensor | None:
        """Return what a classifier says of images `(N, C, H, W)`, `(N, classes)`; None = the method trains none."""
        return None

    def flagged(self, labels: Tensor) -> Tensor | None:
        """Return which training images' labels `(N,)` the method takes for wrong, bool; None = it does not say."""
        return None

    def after_step(self, progress: float) -> None:
        """Move what moves after the optimiser's step."""
        self.progress = progress


class MethodConfig(Protocol):
    """A `method=` choice: the dataclass behind its `_target_`. views: how each view of an image is made.

    make: the method around an encoder, for data of this shape; raises ValueError on parts that do not fit.
    """

    @property
    def views(self) -> tuple[View, ...]: ...
    def make(self, encoder: Encoder, about: DataShape) -> Method: ...


def seen_shape(views: Sequence[View], images: Images) -> tuple[int, ...]:
    """Return the shape (C, H, W) of what views make of uint8 images `(N, C, H, W)`: what an encoder sees.

    Raises ValueError on a view that is not for such images, on views of different shapes, and where one would change
    the proportions of images that are not square.
    """
    sample, shapes = images[:2], dict[tuple[int, ...], str]()
    for view in views:
        shapes |= dict.fromkeys(_made(view, sample), type(view).__name__)
    if len(shapes) > 1:
        made = " and ".join(f"{name} {shape}" for shape, name in shapes.items())
        raise ValueError(f"views of one method must make images of one shape, not {made}: give them the same size")
    (shape,), (height, width) = shapes, images.shape[-2:]
    if height != width and shape != tuple(images.shape[1:]):
        raise ValueError(
            f"images of {height}x{width} are not square, which {shapes[shape]} needs: cut them to squares first, "
            f"as data=folder and data=npz do (data.size={min(height, width)})"
        )
    return shape


def _made(view: View, sample: Tensor) -> set[tuple[int, ...]]:
    """Return the shapes of random and of fixed views."""
    try:
        found = [view(sample, torch.Generator(sample.device)), view.fixed(sample)]
        reason = "it makes no images of them"
    except ValueError as error:
        found, reason = [], " ".join(str(error).split())
    except (IndexError, RuntimeError):  # as views of states do
        found, reason = [], "it is for others"
    if not found or any(each.dtype != torch.uint8 or each.ndim != 4 for each in found):
        raise ValueError(f"{type(view).__name__} does not fit images of {tuple(sample.shape[1:])}: {reason}")
    return {tuple(each.shape[1:]) for each in found}


def out_dim(projector: nn.Module, in_dim: int) -> int:
    """Return the width of a projector's output."""
    linear = [module for module in projector.modules() if isinstance(module, nn.Linear)]
    return linear[-1].out_features if linear else in_dim


def gather_views(z: Tensor) -> Tensor:
    """Return the embeddings `(V, N, D)` of the joint batch of all processes."""
    return gather_with_grad(z.transpose(0, 1), backward="sum").transpose(0, 1)


def gather_rows(rows: Any) -> Any:
    """Return the rows of the joint batch of all processes; None stays None."""
    return None if rows is None else gather_with_grad(rows, backward="sum")
