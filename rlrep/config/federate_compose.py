"""From a command line to the typed config of a run of federated learning."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rlrep.settings import ConfigError, build, coerce
from rlrep.settings.groups import FEDERATE_GROUPS, Tree

from .federate_config import FederateConfig
from .naming import default_federate_out
from .options import resolve
from .overrides import FEDERATE, parse
from .pretrain_compose import compose_node


@dataclass(frozen=True)
class ComposedFederation:
    """One run's config, typed and as the plain tree that `config.yaml` holds."""

    config: FederateConfig
    tree: Tree


def compose_federation(words: Sequence[str], folders: Sequence[Path] = ()) -> ComposedFederation:
    """Compose one run. Raises ConfigError in one line for anything that is not valid."""
    line = parse(words, FEDERATE)
    for option in ("train.epochs", "train.updates"):
        if line.setting(option) is not None:
            raise ConfigError(f"{option} has no place here: rounds= and local_epochs= say how long parties train")
    kinds = ("federated", "pretrain", "pixels")
    node = compose_node("federate", line, folders, groups=FEDERATE_GROUPS, kinds=kinds)
    rounds, epochs = (coerce(node[name], int, name) for name in ("rounds", "local_epochs"))
    node["train"] |= {"epochs": rounds * epochs, "updates": None}
    tree = resolve(node)
    config: FederateConfig = build(FederateConfig, tree, "")
    config = replace(config, out=config.out or default_federate_out(config, line))
    return ComposedFederation(config, {**tree, "out": config.out})
