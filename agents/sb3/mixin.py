"""rlrep's heads in Stable-Baselines3's algorithms (Raffin et al. 2021, https://jmlr.org/papers/v22/20-1364.html).

    AuxSAC("CnnPolicy", env, aux=["curl", "return_contrast"]).learn(100_000)

Policies, callbacks, logger, save and load, vectorised environments: all SB3's own. Nothing of it is copied or patched.
"""

import inspect
import math
import warnings
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any, TypeVar, get_args

import torch
from gymnasium import spaces
from stable_baselines3 import DQN, SAC
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor

from rlrep.heads import HeadConfig, Pull
from rlrep.heads.named import Heads, named_heads, named_view
from rlrep.replay import Needs
from rlrep.views import View

from .extractor import MLPExtractor
from .joint import AuxModules, Joint, owner
from .replay import AuxBuffer, Draws, standing_in
from .saved import MODULES, check_policy, is_of_heads, misfit_of, read_heads, read_settings, without_heads, write_apart

Model = TypeVar("Model", bound="AuxMixin")
NETWORKS = ("critic", "q_net", "quantile_net")
"""Where policies keep the network whose features extractor learns values: SAC, TD3 and DDPG; DQN; QR-DQN."""

SETTINGS = ("aux", "augment", "pull", "encoder_tau", "aux_max_norm")
"""What `AuxMixin` adds to an algorithm's own, by name."""


class AuxMixin(OffPolicyAlgorithm):
    """Auxiliary heads for an off-policy algorithm: `class AuxTD3(AuxMixin, TD3): pass`.

    aux: names of heads (those of `aux=` on rlrep's command line, with their settings there, and those that other
        packages register under the entry-point group `rlrep.aux`), or by name their options or a config of their own.
    augment: name of an augmentation, or a `View`, of the sampled observations; it must keep their shape. Policies act
        on observations as they are. This alone (`aux=()`) is the augmentation-only arm of an ablation.
    pull: how the gradients of heads that name none meet the algorithm's, see `rlrep.heads.Pull` (default: `own`, DQN's
        `balanced`); both meet at the extractor's parameters, after SB3's own clipping where there is one.
    encoder_tau: EMA rate of the heads' momentum copy of the features extractor, per step.
    aux_max_norm: the joint gradient of heads with `pull=sum` is scaled down to this norm; None = never.
    Everything else goes to the algorithm as it is. Without heads and augmentation it is the algorithm as it is. A
    features extractor without parameters (`MlpPolicy`'s) is replaced by a small MLP, and a warning says so.
    Raises ValueError on unknown names and options, on heads that do not fit, on observations that are no Box, on a
    replay buffer of another kind, and on `optimize_memory_usage`, which keeps no next observations.

    An agent that SB3 trained gets heads by `AuxSAC.load("trained", env, aux=["curl"])`, or into a model by
    `model.set_parameters("trained", exact_match=False)` (a file, or `trained.get_parameters()`). With `MlpPolicy` it
    must have been trained with an extractor that has parameters: `policy_kwargs={"features_extractor_class":
    MLPExtractor}`. The other way round, `SAC.load` opens what `AuxSAC` saved.
    """

    _heads_of_file: dict[str, Any]
    default_encoder_tau = 0.05  # CURL on DM Control (Laskin et al. 2020, Table 3)
    default_pull: Pull = "own"  # as agent=sac and agent=rainbow, see docs/results.md

    def __init__(
        self,
        *args: Any,
        aux: Heads = (),
        augment: str | View | None = None,
        pull: Pull | None = None,
        encoder_tau: float | None = None,
        aux_max_norm: float | None = 10.0,
        **kwargs: Any,
    ) -> None:
        self.aux, self.augment = aux, augment
        self.pull: Pull = self.default_pull if pull is None else pull
        if self.pull not in get_args(Pull):
            raise ValueError(f"pull={pull!r}: expected one of {', '.join(get_args(Pull))}")
        self.encoder_tau = self.default_encoder_tau if encoder_tau is None else encoder_tau
        self.aux_max_norm = aux_max_norm
        if not (aux_max_norm is None or (isinstance(aux_max_norm, (int, float)) and aux_max_norm > 0)):
            raise ValueError(f"aux_max_norm={aux_max_norm!r}: expected a number above 0, or None for no clipping")
        super().__init__(*args, **kwargs)

    def aux_network(self) -> BaseModel:
        """Return the network whose features extractor the heads train. Override it where `NETWORKS` has none."""
        for name in NETWORKS:
            network = getattr(self.policy, name, None)
            if isinstance(network, BaseModel):
                return network
        raise ValueError(
            f"{type(self).__name__}: override aux_network(), {type(self.policy).__name__} has no {NETWORKS}"
        )

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed everything, the heads' draws too."""
        super().set_random_seed(seed)
        if seed is not None and hasattr(self, "_draws"):
            self._draws.seed(seed)

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Train as SB3 does and log the heads' health. Raises FloatingPointError once a loss is not finite."""
        super().train(gradient_steps, batch_size)
        if not self.aux:
            return
        found = self._joint.read()
        for name, value in found.items():
            # SB3's table cuts long names off and fails where two become one; only losses are short enough.
            self.logger.record(name, value, exclude=None if name.endswith("/loss") else ("stdout", "log"))
        bad = [name for name, value in found.items() if not math.isfinite(value)]
        if bad:
            raise FloatingPointError(
                f"update {self._n_updates}: {', '.join(bad)} not finite: try a lower learning_rate"
            )

    def set_parameters(
        self, load_path_or_dict: Any, exact_match: bool = True, device: torch.device | str = "auto"
    ) -> None:
        """Take parameters, as SB3 does. Raises RuntimeError in one line on those that do not fit.

        exact_match=False: where the parameters are of no heads, or of others, the heads stay as they are, but for their
        momentum copy of the features extractor, which follows it at once.
        """
        given = load_path_or_dict
        if not isinstance(given, dict):
            given = load_from_zip_file(given, device=device, load_data=False)[1] | read_heads(given, device)
        of_file = vars(self).get("_heads_of_file")  # while load() is at it, else None
        given = dict(given) | (of_file or {})
        theirs, own, begin = without_heads(given), self.get_parameters(), of_file == {}
        if self._configs:
            check_policy(theirs.get("policy", {}), self.policy, self.aux_network())
        misfit = misfit_of(given, own, type(self).__name__, self.pull)
        if misfit and exact_match and not begin:  # a ValueError would be taken for an old file by SB3's load()
            raise RuntimeError(
                f"{misfit}: load with the same aux and pull in the same version of rlrep, or only the algorithm's "
                "parameters, by set_parameters(..., exact_match=False)"
            )
        if begin and misfit:
            warnings.warn(f"the file has no heads: aux={','.join(self._configs)} begins anew", stacklevel=4)
        elif misfit and len(theirs) < len(given):
            warnings.warn(f"{misfit}: they are left out", stacklevel=2)
        heads = {name: value for name, value in (own if misfit else given).items() if is_of_heads(name)}
        super().set_parameters(theirs | heads, exact_match, device)
        if misfit and self._configs and "policy" in theirs:
            self.aux_modules.target.restart()

    @classmethod
    def load(
        cls: type[Model],
        path: Any,
        env: Any = None,
        device: torch.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **kwargs: Any,
    ) -> Model:
        """Load what `save()` wrote, as SB3 does, heads included; or a file of the algorithm without heads.

        `aux=...` gives heads to the latter, which begin anew, and a warning says so. Raises RuntimeError in one line
        on parameters that do not fit.
        """
        mine = read_settings(path, custom_objects) | kwargs | {"_heads_of_file": read_heads(path, device)}
        model = super().load(path, env, device, custom_objects, print_system_info, force_reset, **mine)
        del model._heads_of_file
        return model

    def save(self, path: Any, exclude: Iterable[str] | None = None, include: Iterable[str] | None = None) -> None:
        """Save as SB3 does. The algorithm without heads loads the file too, and leaves them out."""
        whole = BytesIO()
        super().save(whole, exclude, include)
        write_apart(whole, path, {name: getattr(self, name) for name in SETTINGS})

    def load_replay_buffer(self, path: Any, truncate_last_traj: bool = True) -> None:
        """Load a buffer saved by an algorithm with the same heads and as many environments.

        Raises ValueError on one of another kind; the buffer is then the one before.
        """
        before = self.replay_buffer
        super().load_replay_buffer(path, truncate_last_traj)
        if self._configs or self.augment is not None:
            try:
                self._take_up()
            except ValueError:
                self.replay_buffer = before
                raise

    def _take_up(self) -> None:
        """Go on with the buffer that was loaded."""
        buffer = self._buffer()
        if (buffer.n_envs, buffer.obs_shape) != (self.n_envs, self.observation_space.shape):
            raise ValueError(
                f"the replay buffer is of {buffer.n_envs} environments and observations {buffer.obs_shape}, this has "
                f"{self.n_envs} and {self.observation_space.shape}"
            )
        buffer.attend(self._needs, self._draws, view=self._view)

    # How it comes in

    def _setup_model(self) -> None:
        if with_rlrep := bool(self.aux) or self.augment is not None:
            self._settle()
        with warnings.catch_warnings():
            if isinstance(self.replay_buffer, NStepReplayBuffer):  # it has been told of n_steps, SB3 cannot know
                warnings.filterwarnings("ignore", message="`n_steps=")
            super()._setup_model()
        if with_rlrep:
            self._attach()

    @property
    def _read_shape(self) -> tuple[int, ...]:
        """Shape of what heads and views take observations for: frames `(C, H, W)`, or states `(D,)`, which may have
        axes of their own."""
        space = self.observation_space
        assert space.shape is not None
        frames = len(space.shape) == 3 and (is_image_space(space) or not self._flattens(FlattenExtractor, MLPExtractor))
        return space.shape if frames else (spaces.flatdim(space),)

    def _flattens(self, *extractors: type[BaseFeaturesExtractor]) -> bool:
        """Whether the policy's features extractor is one of these."""
        known = inspect.signature(self.policy_class).parameters.get("features_extractor_class")
        chosen = self.policy_kwargs.get("features_extractor_class", known and known.default)
        return isinstance(chosen, type) and issubclass(chosen, extractors)

    def _settle(self) -> None:
        """Turn names into configs, and choose what keeps the observations and what encodes them."""
        space = self.observation_space
        if not isinstance(space, spaces.Box) or not space.shape:
            raise ValueError(
                f"{type(self).__name__} reads Box observations of one axis or more, this environment has {space}"
            )
        if self.optimize_memory_usage:
            raise ValueError("optimize_memory_usage=True keeps no next observations, which heads read: leave it out")
        if isinstance(self.augment, str):
            named = self.augment != "none"
            self.augment = named_view(self.augment, self._read_shape, "augment") if named else None
        if not (self.augment is None or callable(self.augment)):
            raise ValueError(f"augment={self.augment!r}: expected the name of an augmentation, or a View")
        self.aux = named_heads(self.aux, self._read_shape, self.augment)
        if self.aux:
            self._give_parameters()
        if self.replay_buffer is None:
            self.replay_buffer = self._make_buffer(space)

    def _make_buffer(self, space: spaces.Space[Any]) -> AuxBuffer:
        """Return SB3's own choice of a buffer, of observations in `space`, with what heads need."""
        chosen, options = self.replay_buffer_class or ReplayBuffer, self.replay_buffer_kwargs
        if self.replay_buffer_class is None and self.n_steps > 1:
            chosen, options = NStepReplayBuffer, {**options, "n_steps": self.n_steps, "gamma": self.gamma}
        sizes = self.buffer_size, space, self.action_space, self.device
        return standing_in(chosen)(*sizes, n_envs=self.n_envs, **options)

    def _give_parameters(self) -> None:
        """Put an MLP where the policy would take observations as they are."""
        if self._flattens(FlattenExtractor):
            self.policy_kwargs = {**self.policy_kwargs, "features_extractor_class": MLPExtractor}
            warnings.warn(
                f"FlattenExtractor has no parameters for aux={','.join(self._configs)} to train: the policy gets "
                f"rlrep's MLPExtractor (policy_kwargs={{'features_extractor_class': ...}} chooses another)",
                stacklevel=6,  # who called the constructor
            )

    def _attach(self) -> None:
        """Let the buffer know what is needed, and the heads' gradients into the optimiser."""
        self._draws = Draws.on(self.device)
        self._draws.seed(torch.initial_seed() if self.seed is None else self.seed)
        if self._view is not None:
            self._buffer().check_view("augment", self._view, self.observation_space.shape)
        if self._configs:
            self._make_heads()
        self._buffer().attend(self._needs, self._draws, view=self._view)

    def _make_heads(self) -> None:
        network, shape = self.aux_network(), self.observation_space.shape
        optimizer = owner(self.policy, network)
        with torch.random.fork_rng():  # SB3 draws from the global stream
            torch.manual_seed(self._draws.host.initial_seed())
            self.aux_modules = AuxModules(
                network,
                self._configs,
                flat_actions(self.action_space),
                optimizer,
                pull=self.pull,
                encoder_tau=self.encoder_tau,
                obs_shape=self._read_shape,
            ).to(self.device)
        views = {name: need.view or self._view for name, need in self._needs.items()}
        for name, view in views.items():
            if view is not None:
                self._buffer().check_view(f"aux.{name}.view", view, shape)
        self._joint = Joint(
            network,
            self.aux_modules,
            optimizer,
            self._buffer,
            self._draws,
            views=views,
            gamma=self.gamma,
            max_norm=self.aux_max_norm,
        )

    @property
    def _configs(self) -> dict[str, HeadConfig]:
        return dict(self.aux) if isinstance(self.aux, Mapping) else {}

    @property
    def _needs(self) -> dict[str, Needs]:
        return self.aux_modules.joining.needs if self._configs else {}

    @property
    def _view(self) -> View | None:
        assert not isinstance(self.augment, str)
        return self.augment

    def _buffer(self) -> AuxBuffer:
        if not isinstance(self.replay_buffer, AuxBuffer):
            raise ValueError(f"a {type(self.replay_buffer).__name__} does not keep what aux= and augment= need")
        return self.replay_buffer

    # Saving

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_joint", "_draws", *SETTINGS]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        modules, variables = super()._get_torch_save_params()
        if not self._configs:
            return modules, variables
        optimizers = [f"{MODULES}.{name}" for name in self.aux_modules.optimizers]
        return [*modules, MODULES, *optimizers], variables


class AuxSAC(AuxMixin, SAC):
    """SB3's SAC with auxiliary heads, see `AuxMixin`."""


class AuxDQN(AuxMixin, DQN):
    """SB3's DQN with auxiliary heads, see `AuxMixin`."""

    default_encoder_tau = 0.001  # CURL's Rainbow (Laskin et al. 2020, Table 4)
    default_pull = "balanced"


def flat_actions(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """Return the space of actions as SB3 stores them: flat, and continuous ones in [-1, 1]."""
    return spaces.Box(-1.0, 1.0, (spaces.flatdim(space),)) if isinstance(space, spaces.Box) else space
