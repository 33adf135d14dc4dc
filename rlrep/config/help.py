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
  --config-dir DIR    look for more group files (DIR/env/NAME.yaml, ...), and for their modules, in DIR
  -h, --help          print this

groups (aux takes a name, a list [a,b], or none)
"""
_TAIL = """
Every option of the chosen components has a dotted name (agent.lr, env.num_envs, aux.curl.weight): see --cfg.
train.agent_steps or train.env_steps replaces the preset's length; env steps count action repeats."""


_PRETRAIN_HEAD = """\
Pretrain an encoder on images. The same command again continues an unfinished run.

  python -m rlrep.pretrain [FLAGS] [GROUP=NAME ...] [OPTION=VALUE ...]

  python -m rlrep.pretrain method=simclr data=digits preset=cpu         two minutes on two cores
  python -m rlrep.pretrain method=byol data=folder data.path=IMAGES     the cited paper's settings
  python -m rlrep.pretrain method=simclr data=frames data.path=FILE encoder=curl data.gap=1
  python -m rlrep.pretrain -m method=simclr,byol data=digits preset=cpu 'seed=range(0,3)'
  torchrun --nproc-per-node=4 -m rlrep.pretrain method=moco_v3 data=cifar10 data.path=ARCHIVE
  python -m rlrep.train env=dmc_cheetah encoder.load=RUN                the encoder in an agent

flags
  -m, --multirun      run every combination of the sweeps: a,b  range(0,5)
  -c, --cfg           print the composed config and stop
  --config-dir DIR    look for more group files (DIR/method/NAME.yaml, ...), and for their modules, in DIR
  -h, --help          print this

groups
"""
_PRETRAIN_TAIL = """
Every option of the chosen components has a dotted name (method.objective.temperature, method.predictor, data.path,
encoder.latent_dim): see --cfg. augment=NAME makes all views of a method with that; without it they are the data's
(digits: mild, frames: random_shift) or the method's own. Positives of frames are up to data.gap steps apart (0: of one
frame). train.epochs or train.updates replaces the preset's length."""


_BENCH_HEAD = """\
Run a grid: tasks x agents x arms x seeds. The same command again continues what was cut off.

  python -m rlrep.bench [FLAGS] suite=NAME [agents=A,B] [aux=A,B] [seeds=N] [OPTION=VALUE ...]
  python -m rlrep.bench speed [curl=CHECKOUT] [rainbow=CHECKOUT] [device=cuda]

  python -m rlrep.bench suite=toy                                       a minute or two, to see that all works
  python -m rlrep.bench suite=dmc100k preset=cpu                        an ablation on two cores, some three hours
  python -m rlrep.bench suite=dmc100k agents=sac,sb3_sac aux=none,curl,return_contrast seeds=5
  python -m rlrep.bench suite=atari100k tasks=atari_pong,atari_krull launcher=slurm launcher.partition=gpu
  python -m rlrep.bench suite=toy launcher=ray launcher.address=HOST:PORT
  python -m rlrep.report runs out=report                                what came out

aux=none is the base arm, without augmentation; the augmentation-only arm is always added. A run's output is in
seedN.log beside its folder.

flags
  --dry-run           list the runs' commands and stop
  -c, --cfg           print what the grid consists of and stop
  --config-dir DIR    look for more group files (DIR/suite/NAME.yaml, ...), and for their modules, in DIR
  -h, --help          print this

options
  suite=NAME          protocol: tasks, lengths, agents, arms, seeds
  tasks=A,B           of the suite's
  agents=A,B          agents to compare
  aux=A,B,[C,D]       heads to compare, [C,D] both at once
  seeds=N             how many, or which: seeds=[0,3]
  out=FOLDER          of the runs, default runs
  launcher.jobs=N     runs at a time; auto (default) = what the machine, or the cluster, has room for
  any other           word of rlrep.train, for every run; sweeps (agent.lr=1e-3,3e-4) become further arms

groups
"""


def bench_help(folders: Sequence[Path]) -> str:
    """Return usage, suites and launchers of `rlrep.bench`."""
    return _BENCH_HEAD + _groups(("suite", "launcher", "preset"), folders)


def train_help(folders: Sequence[Path]) -> str:
    """Return usage, groups with their names, and the general options with their defaults."""
    return _HEAD + _groups(registry.GROUPS, folders) + "\n\noptions\n" + "\n".join(_options("config")) + "\n" + _TAIL


def pretrain_help(folders: Sequence[Path]) -> str:
    """Return the same of `rlrep.pretrain`."""
    groups = _groups(registry.PRETRAIN_GROUPS, folders)
    return _PRETRAIN_HEAD + groups + "\n\noptions\n" + "\n".join(_options("pretrain")) + "\n" + _PRETRAIN_TAIL


def _groups(names: Sequence[str], folders: Sequence[Path]) -> str:
    return "\n".join(f"  {group + '=':<11}{_wrap(registry.visible(group, folders))}" for group in names)


def _wrap(names: Sequence[str]) -> str:
    lines: list[str] = []
    line = ""
    for name in names:
        if len(line) + len(name) > 100:
            lines, line = [*lines, line], ""
        line += f"{name} "
    return ("\n" + " " * 13).join([*lines, line])


def _options(primary: str) -> list[str]:
    """Show the general options as `configs/PRIMARY.yaml` writes them, with its comments."""
    lines = (registry.ROOT / f"{primary}.yaml").read_text().splitlines()
    top = {key for key in yaml.safe_load("\n".join(lines)) if key not in ("defaults", "when", "scale")}
    start = next(i for i, line in enumerate(lines) if line.split(":")[0] in top)
    return [f"  {line}" for line in lines[start:] if line.strip()]
