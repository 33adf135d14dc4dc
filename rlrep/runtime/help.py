"""The text of `--help`."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from . import registry

_HEAD = """\
Train an agent, with or without auxiliary heads. The same command again continues an unfinished run.

  python -m rlrep.train [FLAGS] [GROUP=NAME ...] [OPTION=VALUE ...]

  python -m rlrep.train env=dmc_cheetah aux=return_contrast             the cited paper's settings
  python -m rlrep.train env=toy_pixels preset=debug                     seconds, to see that all works
  python -m rlrep.train env=dmc_cheetah aux=[curl,return_contrast] aux.curl.weight=0.5
  python -m rlrep.train -m env=dmc_cheetah,dmc_walker aux=none,curl 'seed=range(0,5)'

flags
  -m, --multirun      run every combination of the sweeps: a,b  range(0,5)
  -c, --cfg           print the composed config and stop
  --config-dir DIR    look for more group files (DIR/env/NAME.yaml, ...) in DIR
  -h, --help          print this

groups (aux takes a name, a list [a,b], or none)
"""
_TAIL = """
Every option of the chosen components has a dotted name (agent.lr, env.num_envs, aux.curl.weight): see --cfg.
train.agent_steps or train.env_steps replaces the preset's length; env steps count action repeats."""


def train_help(folders: Sequence[Path]) -> str:
    """Return usage, groups with their names, and the general options with their defaults."""
    groups = [f"  {group + '=':<11}{_wrap(registry.visible(group, folders))}" for group in registry.GROUPS]
    return _HEAD + "\n".join(groups) + "\n\noptions\n" + "\n".join(_options()) + "\n" + _TAIL


def _wrap(names: Sequence[str]) -> str:
    lines: list[str] = []
    line = ""
    for name in names:
        if len(line) + len(name) > 100:
            lines, line = [*lines, line], ""
        line += f"{name} "
    return ("\n" + " " * 13).join([*lines, line])


def _options() -> list[str]:
    """Show the general options as `config.yaml` writes them, with its comments."""
    lines = (registry.ROOT / "config.yaml").read_text().splitlines()
    top = {key for key in yaml.safe_load("\n".join(lines)) if key not in ("defaults", "when")}
    start = next(i for i, line in enumerate(lines) if line.split(":")[0] in top)
    return [f"  {line}" for line in lines[start:] if line.strip()]
