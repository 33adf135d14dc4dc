"""The model card of a run: README.md of its repository, with the front matter that the Hugging Face Hub reads."""

import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import yaml

from rlrep.record.files import replace_file
from rlrep.record.folder import read_config
from rlrep.record.stored import Unreadable, read_json
from rlrep.scores.arms import SUCCESS, Task, length_of, settings_of, task_of
from rlrep.scores.comparison import raw
from rlrep.scores.files import clean, read_csv
from rlrep.scores.runs import Run, find_folders, read_run, read_runs
from rlrep.scores.statistics import FEWEST_RUNS, estimate, interquartile_mean

_RESAMPLES = 2000
_MOST_SEEDS = 20
_PROBE = ("variable", "probe", "metric", "features")


def write_card(folder: Path, staged: Path, name: str) -> None:
    """Write the card of the run in `folder` beside what is `staged` of it, for the repository `name`."""
    config = read_config(staged)
    chosen = {key: clean(str(value)) for key, value in dict(config.get("choices") or {}).items()}
    title = " + ".join(chosen[key] for key in ("agent", "method", "aux") if chosen.get(key, "none") != "none")
    try:
        run = read_run(folder)[0] if "agent" in config else None
    except Unreadable:  # nothing is evaluated yet
        run = None
    subject = task_of(run).name if run else chosen.get("env") or chosen.get("data") or "?"
    lines = [f"# {title} on {subject}", "", *_about(staged, config), "", *_settings(config, chosen, run)]
    lines += ["", "## Scores", "", *(_scores(run) if run else _probes(folder)), *_film(staged)]
    lines += ["", "## Use", "", *_use(staged, name), "", "## Made by", "", *_made_by(folder)]
    front = yaml.safe_dump(_front(chosen, run, name), sort_keys=False, allow_unicode=True, width=120)
    replace_file(staged / "README.md", f"---\n{front}---\n" + "\n".join(lines) + "\n")


def _front(chosen: Mapping[str, str], run: Run | None, name: str) -> dict[str, Any]:
    """Return the front matter: tags and, of an agent that was evaluated, its own score (never that of other seeds)."""
    kind = "reinforcement-learning" if "agent" in chosen else "image-feature-extraction"
    named = [chosen[key] for key in ("agent", "method", "aux", "env", "data") if chosen.get(key, "none") != "none"]
    front: dict[str, Any] = {
        "library_name": "rlrep",
        "pipeline_tag": kind,
        "tags": list(dict.fromkeys([kind, "contrastive-learning", "rlrep", *named])),
    }
    if run is not None:
        task = task_of(run)
        success = task.unit == SUCCESS
        metric = {"type": "success_rate" if success else "mean_reward", "name": task.unit, "value": _score(task, run)}
        about = {"task": {"type": kind, "name": kind}, "dataset": {"type": chosen.get("env", "?"), "name": task.name}}
        front["model-index"] = [{"name": name.rpartition("/")[2], "results": [{**about, "metrics": [metric]}]}]
    return front


def _about(staged: Path, config: Mapping[str, Any]) -> Iterator[str]:
    agent, encoder = "agent" in config, (staged / "encoder.safetensors").exists()
    what = "An agent" + (" and its encoder" if encoder else "") if agent else "An encoder of images"
    yield f"{what}, trained with rlrep. Weights are safetensors; nothing here is code."
    if agent and not encoder:
        yield "This agent has no encoder of its own to load into another."


def _settings(config: Mapping[str, Any], chosen: Mapping[str, str], run: Run | None) -> Iterator[str]:
    """Yield what was trained under which protocol, in a table."""
    rows = {key: value for key, value in chosen.items() if key not in ("launcher", "logger")}
    rows["seed"] = str(config.get("seed", "?"))
    if run is not None:
        rows |= {"task": task_of(run).name, "length": length_of(run), "scored by": task_of(run).unit}
        if run.scoring.remark:
            rows["of the scores"] = run.scoring.remark
    yield from ("| | |", "| --- | --- |", *(f"| {key} | {_cell(value)} |" for key, value in rows.items()))


def _scores(run: Run) -> Iterator[str]:
    """Yield this run's final evaluation, and what other seeds of the same settings beside it add up to."""
    task, found = task_of(run), run.evaluations
    steps = f"after {found.agent_steps[-1]:.0f} agent steps ({found.env_steps[-1]:.0f} env steps)"
    end = "the final evaluation" if found.final else "the latest evaluation of a run that is not finished"
    yield f"This agent: {task.unit} {_score(task, run):.2f}, the mean of {found.episodes} episodes, {end} {steps}."
    alike = _alike(run)
    if len(alike) > 1:
        yield ""
        yield from _of_seeds(task, alike)
    elif found.final:
        yield "It is one seed: what others give is not known from here."


def _of_seeds(task: Task, runs: Sequence[Run]) -> Iterator[str]:
    scores = [_score(task, run) for run in runs]
    listed = ", ".join(f"{score:.2f} (seed {clean(run.seed)})" for score, run in zip(scores, runs, strict=True))
    made = estimate(
        interquartile_mean, [scores], resamples=_RESAMPLES, generator=np.random.default_rng(0), fewest=FEWEST_RUNS
    )
    if made.low is None:
        yield f"The same settings with {len(runs)} seeds: {listed}; too few for an interval."
    else:
        yield f"The same settings with {len(runs)} seeds: IQM {made.value:.2f}, 95 % interval {made.low:.2f} to"
        yield f"{made.high:.2f} (bootstrap, {_RESAMPLES} resamples): {listed}."


def _alike(run: Run) -> list[Run]:
    """Return the finished runs beside a finished one that differ from it in the seed alone, itself among them."""
    if not run.evaluations.final:
        return [run]
    place = run.folder.resolve().parent
    runs, _ = read_runs(folder for folder in find_folders([place]) if folder.resolve().parent == place)
    same = [each for each in runs if each.evaluations.final and settings_of(each) == settings_of(run)]
    same = [each for each in same if length_of(each) == length_of(run) and task_of(each) == task_of(run)]
    by_seed = {each.seed: each for each in same} | {run.seed: run}
    return list(by_seed.values())[:_MOST_SEEDS]


def _score(task: Task, run: Run) -> float:
    return float(raw(task, run)[-1])


def _probes(folder: Path) -> Iterator[str]:
    """Yield the final scores of a pretraining run's probes, beside those of an untrained encoder, in a table."""
    try:
        table = read_csv(folder / "eval.csv")
        found: dict[tuple[str, ...], list[float]] = defaultdict(list)
        for row in (dict(zip(table.columns, cells, strict=True)) for cells in table.rows):
            if row["kind"] in ("final", "initial"):
                found[tuple(clean(row[key]) for key in _PROBE)].append(float(row["value"]))
    except (Unreadable, KeyError, TypeError, ValueError):
        found = {}
    if not found:
        yield "Nothing has been evaluated."
        return
    columns = list(dict.fromkeys(key[3] for key in found))
    yield f"| variable | probe | metric | {' | '.join(columns)} |"
    yield f"| --- | --- | --- |{' --- |' * len(columns)}"
    for row_key in dict.fromkeys(key[:3] for key in found):
        values = [found.get((*row_key, column)) for column in columns]
        cells = [*map(_cell, row_key), *(f"{fmean(each):.4f}" if each else "" for each in values)]
        yield f"| {' | '.join(cells)} |"


def _film(staged: Path) -> Iterator[str]:
    for path in sorted((staged / "videos").glob("agent.*")):
        place = path.relative_to(staged)
        yield ""
        yield f"![an episode]({place})" if path.suffix == ".gif" else f'<video controls src="{place}"></video>'


def _use(staged: Path, name: str) -> Iterator[str]:
    yield from ("```bash", "pip install 'rlrep[hub]'", f"python -m rlrep.hub pull {name} --out pulled")
    if (staged / "checkpoints").exists():
        yield "python -m rlrep.evaluate out=pulled"
    if (staged / "encoder.safetensors").exists():
        yield f"python -m rlrep.train env=... encoder.load=hub:{name}"
    yield "```"


def _made_by(folder: Path) -> Iterator[str]:
    try:
        versions = read_json(folder / "versions.json")
    except Unreadable:
        versions = {}
    packages = {**_mapping(versions.get("packages")), **_mapping(versions.get("simulators"))}
    packages["python"] = versions.get("python")
    yield from ("```bash", clean(command_of(folder)) or "# not recorded", "```", "")
    shown = [f"{clean(str(key))} {clean(str(value))}" for key, value in packages.items() if value]
    yield f"With {', '.join(shown)}; commit {clean(str(versions.get('git')))}; {clean(str(versions.get('device')))}."


def command_of(folder: Path) -> str:
    """Return the command that made a run, without the folder, which is a place on somebody's machine; "" if unknown."""
    try:
        words = shlex.split(str(read_json(folder / "versions.json").get("command", "")))
    except (Unreadable, ValueError):
        return ""
    return shlex.join(word for word in words if not word.startswith(("out=", "root=")))


def _mapping(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _cell(text: str) -> str:
    return clean(text).replace("|", "\\|")
