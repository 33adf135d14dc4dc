"""One session of a pretraining run: open its folder, build its parts, train, and say how it ended."""

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch

from rlrep.config.pretrain_config import PretrainConfig
from rlrep.contract.env import Tree
from rlrep.nn import Encoder
from rlrep.process.machine import keep_large_blocks, pick_device, set_threads
from rlrep.process.output import spare_output
from rlrep.process.progress import Reporter, make_reporter
from rlrep.process.seeds import Seeds
from rlrep.process.signals import StopRequest, catch_signals
from rlrep.record import versions
from rlrep.record.checkpoint import Checkpoints, Manifest, fitting, load_newest
from rlrep.record.folder import check_same_run, has_final_row, lock_folder, read_config, resolve_tree, write_config
from rlrep.record.logs import RunLog
from rlrep.settings import Stopped, UserError, one_line
from rlrep.ssl import Learner, Length
from rlrep.ssl.base import seen_shape
from rlrep.ssl.data import Split, describe
from rlrep.ssl.evaluation import ProbeData
from rlrep.ssl.learner import plan, world

from .distributed import first_alone, process_group, wait_for_all
from .loop import COLUMNS, Parts, PretrainLoop, Records
from .picture import Picture


@spare_output()
def pretrain(config: PretrainConfig, tree: Mapping[str, Any], *, again: str) -> None:
    """Run, or continue, the pretraining that `config` describes. tree: the same, as composed. again: its command.

    Raises UserError (one line), Stopped (after saving, when a signal came).
    """
    set_threads()
    keep_large_blocks()
    folder = Path(config.out)
    with ExitStack() as stack:
        device = stack.enter_context(process_group(pick_device(config.device)))
        first = world()[0] == 0
        say = partial(print, flush=True) if first else _Silent().say
        if first:
            stack.enter_context(lock_folder(folder))
            manifest = open_run(folder, tree)
        wait_for_all()
        manifest = manifest if first else Checkpoints(folder / "checkpoints").latest()
        if manifest.finished if manifest else (folder / "config.yaml").exists() and has_final_row(folder):
            size = f" ({manifest.step} updates)" if manifest else ", its checkpoints are gone"
            say(f"this run is finished{size}: see {folder}, or choose another seed= or out=")
            return
        stop = stack.enter_context(catch_signals())
        try:
            _run(config, tree, device, stop, stack)
        except Stopped:
            say(f"stopped, saved in {folder}; to go on: {again}")
            raise
    places = [str(folder / name) for name in ("pretraining.png", "encoder.safetensors", "eval.csv", "metrics.jsonl")]
    say(f"done: {'  '.join(places)}")


def open_run(folder: Path, tree: Mapping[str, Any]) -> Manifest | None:
    """Return the folder's newest checkpoint. Raises UserError if it holds another run."""
    manifest = Checkpoints(folder / "checkpoints").latest()
    if (folder / "config.yaml").exists():
        check_same_run(folder, read_config(folder), tree, may_grow=False)
    elif manifest is not None:
        raise UserError(f"{folder} has checkpoints but no config.yaml: restore it, or choose another out=")
    return manifest


def _run(
    config: PretrainConfig, tree: Mapping[str, Any], device: torch.device, stop: StopRequest, stack: ExitStack
) -> None:
    """Build, resume where there is a checkpoint, and train."""
    folder, first = Path(config.out), world()[0] == 0
    split, encoder, learner = build(config, device)
    checkpoints = Checkpoints(folder / "checkpoints")
    loaded = first_alone(lambda: load_newest(checkpoints))  # it may put a damaged one aside
    start = loaded[0].step if loaded else 0
    reporter: Reporter = make_reporter(learner.length.updates, start, "updates") if first else _Silent()
    stack.callback(reporter.close)
    for line in _headline(config, split, learner.length, encoder):
        reporter.say(line)
    records = _open_records(config, tree, device, loaded, reporter, stack) if first else None
    data = ProbeData.of(split, config.probe)
    parts = Parts(learner, config.encoder, data, config.probe, reporter, stop, records)
    loop = PretrainLoop(parts, config.train)
    if loaded is not None:
        with fitting(loaded[0].path):
            loop.check_state(loaded[1], start)
            loop.load_state(loaded[1])
        reporter.say(f"continuing at update {start}")
    if records is not None:
        write_config(folder, resolve_tree(tree, {"device": device.type}))
        versions.record(folder, device, at={"updates": start}, say=reporter.say)
        records.log.begin(loaded[1]["logs"] if loaded else None)
    loop.run()


def build(config: PretrainConfig, device: torch.device) -> tuple[Split, Encoder, Learner]:
    """Read the data and build what trains on it. Raises UserError if the parts do not fit each other."""
    seeds = Seeds(config.seed)
    try:
        split = first_alone(lambda: config.data.make(device))  # it may write a file that the others read
        seeds.set_globals()
        encoder = config.encoder.make(seen_shape(config.method.views, split.train.images))
        train = config.train
        learner = Learner(
            config.method,
            encoder,
            split.train,
            optimiser=config.optimiser,
            length=plan(len(split.train), batch_size=train.batch_size, epochs=train.epochs, updates=train.updates),
            label=train.label,
            seed=seeds.agent,
            gap=getattr(config.data, "gap", 0),
            precision=config.precision,
        )
    except ValueError as error:
        raise UserError(one_line(error)) from error
    return split, encoder, learner


def _open_records(
    config: PretrainConfig,
    tree: Mapping[str, Any],
    device: torch.device,
    loaded: tuple[Manifest, Tree] | None,
    reporter: Reporter,
    stack: ExitStack,
) -> Records:
    folder, start = Path(config.out), loaded[0].step if loaded else 0
    final = resolve_tree(tree, {"device": device.type})
    log = RunLog(
        folder,
        config.logger,
        final,
        step=start,
        step_key="updates",
        columns=COLUMNS,
        say=reporter.say,
    )
    stack.callback(log.close)
    picture = Picture(folder, _title(config), reporter.say)
    return Records(folder, log, Checkpoints(folder / "checkpoints"), picture, versions.command_line())


def _headline(config: PretrainConfig, split: Split, length: Length, encoder: Encoder) -> list[str]:
    weights = sum(parameter.numel() for parameter in encoder.parameters())
    processes = f"{world()[1]} processes, " if world()[1] > 1 else ""
    device = split.train.images.device
    return [
        f"{_title(config)} -> {config.out}",
        *describe(split),
        f"{len(split.train)} images {split.train.shape} to train on, {len(split.test)} to test on; "
        f"encoder of {weights} weights, latent {encoder.latent_dim}",
        f"{length.updates} updates of {length.batch_size} images, {processes}{versions.device_name(device)}, "
        f"{torch.get_num_threads()} threads",
    ]


def _title(config: PretrainConfig) -> str:
    named = [config.choices[group] for group in ("method", "data", "encoder")]
    return "  ".join([*named, f"preset={config.choices['preset']}", f"seed={config.seed}"])


class _Silent:
    """The reporter of all processes but the first."""

    def say(self, line: str) -> None:
        """Say nothing."""

    def update(self, done: int, updates: int, note: str) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Nothing to close."""
