"""What a party minimises beside its method's loss, so that it does not drift from the others: MOON and FedProx."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from rlrep.contrast import model_contrast
from rlrep.contrast.parts import Metrics
from rlrep.nn import Encoder
from rlrep.settings import ranges
from rlrep.ssl import DataShape, ImageBatch, Method, MethodConfig
from rlrep.ssl.data import ImageData
from rlrep.views import View


class LocalMethod(Method):
    """A method of a party: `base`, whose weights the parties share, and a term that looks at the model received.

    Without a call of `begin`, that is outside of federated learning, it is its base.
    memory: how many of the party's earlier models it looks at.
    """

    memory = 0

    def __init__(self, base: Method) -> None:
        if type(base).gradients is not Method.gradients:
            raise ValueError(
                "method.base finds its gradients part by part, to which no term can be added: choose another"
            )
        super().__init__(base.encoder, base.online.get_submodule("projector"))
        self.base, self.needs, self.sync_batch_norm = base, base.needs, base.sync_batch_norm

    @abstractmethod
    def begin(self, previous: Sequence[Mapping[str, Tensor]]) -> None:
        """Begin a round from the present weights, which the party has received.

        previous: states of `online` as the party left it at the end of its last rounds, oldest first, at most `memory`.
        """

    def prepare(self, data: ImageData, labels: Tensor | None, view: View) -> None:
        self.base.prepare(data, labels, view)

    def logits(self, images: Tensor) -> Tensor | None:
        return self.base.logits(images)

    def after_step(self, progress: float) -> None:
        super().after_step(progress)
        self.base.after_step(progress)

    def base_loss(self, batch: ImageBatch) -> tuple[Tensor, Metrics]:
        """Return the base's loss and metrics."""
        self.base.progress = self.progress
        return self.base.loss(batch)


@dataclass(frozen=True)
class ModelContrast:
    """MOON: what the party's network makes of an image is to be near to what the model it received makes of it, rather
    than to what its own earlier models did (Li et al. 2021, arXiv 2103.16257, eq. 3).

    base: the method that each party trains. mu: weight of the contrast; 0 = FedAvg, with the cosines logged.
    memory: earlier models of the party.
    """

    base: MethodConfig
    mu: float = 1.0
    temperature: float = 0.5
    memory: int = 1

    def __post_init__(self) -> None:
        ranges.at_least(self, 0, ("mu",))
        ranges.positive(self, ("temperature",))
        ranges.at_least(self, 1, ("memory",))

    @property
    def views(self) -> tuple[View, ...]:
        """The base's."""
        return self.base.views

    def make(self, encoder: Encoder, about: DataShape) -> Method:
        """Build the method. Raises ValueError as the base does."""
        return ModelContrastMethod(self, self.base.make(encoder, about))


class ModelContrastMethod(LocalMethod):
    """The contrast is of the embeddings that the base's loss computes anyway: one forward of the network, not two."""

    def __init__(self, config: ModelContrast, base: Method) -> None:
        super().__init__(base)
        self.config, self.memory = config, config.memory
        self.received: nn.Module | None = None
        self.previous = nn.ModuleList()

    def begin(self, previous: Sequence[Mapping[str, Tensor]]) -> None:
        """Keep copies of what was received, and of the party's earlier networks."""
        self.received = _frozen(self.online)
        self.previous = nn.ModuleList(_frozen(self.online) for _ in previous)
        for network, state in zip(self.previous, previous, strict=True):
            network.load_state_dict(state)

    def train(self, mode: bool = True) -> "ModelContrastMethod":
        """Set the mode of the base alone: frozen copies stay in evaluation mode, as in the authors' code."""
        super().train(mode)
        for network in (self.received, *self.previous):
            if network is not None:
                network.eval()
        return self

    def loss(self, batch: ImageBatch) -> tuple[Tensor, Metrics]:
        """Return the base's loss plus mu times the contrast, which is 0 in a party's first round."""
        if self.received is None:
            return self.base_loss(batch)
        with closing(_Embedded(self.base.online)) as embedded:
            loss, metrics = self.base_loss(batch)
        images, z = embedded.together()
        with torch.no_grad():
            received, earlier = self.received(images), [network(images) for network in self.previous]
            cosines = {"cosine_global": cosine_similarity(z, received).mean()}
            if earlier:
                cosines["cosine_previous"] = cosine_similarity(z, earlier[-1]).mean()
        if not earlier or not self.config.mu:
            return loss, {**metrics, **cosines}
        contrast = model_contrast(z, received, torch.stack(earlier, 1), temperature=self.config.temperature)
        return loss + self.config.mu * contrast, {**metrics, **cosines, "model_contrast": contrast.detach()}


class _Embedded:
    """What a network is given and returns, with gradient, until it is closed."""

    def __init__(self, network: nn.Module) -> None:
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._handle = network.register_forward_hook(self._keep)

    def _keep(self, network: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        if made.requires_grad:
            self._seen.append((given[0], made))

    def together(self) -> tuple[Tensor, Tensor]:
        """Return images and embeddings. Raises ValueError if there are none."""
        if not self._seen:
            raise ValueError("method.base embeds no images, so that there is nothing to contrast: choose another one")
        images, embedded = zip(*self._seen, strict=True)
        return torch.cat(images), torch.cat(embedded)

    def close(self) -> None:
        self._handle.remove()


@dataclass(frozen=True)
class Proximal:
    """FedProx: a party pays for the distance of its weights from those it received (Li et al. 2020, arXiv 1812.06127,
    eq. 2): mu / 2 times its square."""

    base: MethodConfig
    mu: float = 0.01

    def __post_init__(self) -> None:
        ranges.at_least(self, 0, ("mu",))

    @property
    def views(self) -> tuple[View, ...]:
        """The base's."""
        return self.base.views

    def make(self, encoder: Encoder, about: DataShape) -> Method:
        """Build the method. Raises ValueError as the base does."""
        return ProximalMethod(self.mu, self.base.make(encoder, about))


class ProximalMethod(LocalMethod):
    """Over all weights that are trained."""

    def __init__(self, mu: float, base: Method) -> None:
        super().__init__(base)
        self.mu = mu
        self._received: list[Tensor] = []

    def begin(self, previous: Sequence[Mapping[str, Tensor]]) -> None:
        """Keep the weights received."""
        self._received = [weight.detach().clone() for weight in self._weights()]

    def loss(self, batch: ImageBatch) -> tuple[Tensor, Metrics]:
        """Return the base's loss plus the distance."""
        loss, metrics = self.base_loss(batch)
        if not self._received or not self.mu:
            return loss, metrics
        pairs = zip(self._weights(), self._received, strict=True)
        distance = torch.stack([(weight - start).square().sum() for weight, start in pairs]).sum()
        return loss + self.mu / 2 * distance, {**metrics, "distance": distance.detach().sqrt()}

    def _weights(self) -> list[nn.Parameter]:
        return [weight for weight in self.base.parameters() if weight.requires_grad]


def _frozen(network: nn.Module) -> nn.Module:
    return deepcopy(network).eval().requires_grad_(False)
