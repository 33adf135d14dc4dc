"""Returns of trained policies against the reach of an adversary that moves their observations, head by head.

    python -m benchmarks.attacked GRID [--epsilon 0.05,0.1,0.2] [--episodes 10] [--tasks dmc_cup,...]

GRID: a folder of finished runs, as of `rlrep.bench`. Each run's newest checkpoint plays through `rlrep.evaluate
attack=pgd`, which writes the run's evaluate.csv; one that holds these reaches and as many episodes is not played again.
Writes results/attacked.json and results/attacked.png.
"""

import csv
import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from rlrep.commands.evaluate import main as evaluate
from rlrep.record.files import replace_picture
from rlrep.scores.arms import find_arms, label, order, task_of
from rlrep.scores.figures import draw_band, draw_legend, look_of, make_panels
from rlrep.scores.runs import find_folders, read_runs
from rlrep.scores.statistics import FEWEST_RUNS, Band, curve, mean

from . import result
from .tables import spread, spread_head

Returns = Mapping[float, float]
"""A run's mean return, by the adversary's reach; 0 is at rest."""
Found = Mapping[str, Mapping[str, Sequence[Returns]]]
"""By task and arm, every run's."""


def named(folder: Path, tasks: Sequence[str]) -> Mapping[Path, tuple[str, str]]:
    """Return task and arm of the runs below a folder, called what a report calls them. tasks: only these, all if ()."""
    runs = [(task_of(run), run) for run in read_runs(find_folders([folder]))[0]]
    kept = [(task, run) for task, run in runs if not tasks or task.name in tasks]
    arms = find_arms(kept)
    ordered = order(arms.values())
    names = label(ordered)
    places = sorted(range(len(kept)), key=lambda place: (kept[place][0].name, ordered.index(arms[place])))
    return {kept[place][1].folder: (kept[place][0].name, names[arms[place]]) for place in places}


def attacked(folder: Path, reaches: Sequence[float], episodes: int) -> Returns:
    """Return a run's returns, played now unless its table has them."""
    found = table(folder, episodes)
    if set(found) != {0.0, *reaches}:
        told = f"attack.epsilon=[{','.join(map(str, reaches))}]"
        if evaluate([f"out={folder}", f"episodes={episodes}", "attack=pgd", told]):
            raise SystemExit(f"{folder} could not be evaluated: see the line above")
        found = table(folder, episodes)
    return found


def table(folder: Path, episodes: int) -> Returns:
    """Return what a run's evaluate.csv says by reach; nothing of one with other episodes."""
    path = folder / "evaluate.csv"
    if not path.exists():
        return {}
    rows = [(float(row.get("epsilon", "nan")), float(row["return"])) for row in csv.DictReader(path.open())]
    by_reach = {reach: [value for _, value in group] for reach, group in itertools.groupby(rows, lambda row: row[0])}
    return {reach: statistics.fmean(values) for reach, values in by_reach.items() if len(values) == episodes}


def table_rows(found: Found) -> Iterable[Sequence[object]]:
    """Return a line per task and arm: the mean return at every reach."""
    for task, arms in found.items():
        for arm, runs in arms.items():
            columns = ([run[reach] for run in runs] for reach in runs[0])
            yield [task, arm, len(runs), *(f"{statistics.fmean(column):.0f}{spread(column, 0)}" for column in columns)]


def draw(path: Path, found: Found) -> None:
    """Draw the share of its undisturbed return that each arm keeps, a panel a task."""
    figure, panels = make_panels(len(found))
    for panel, (task, arms) in zip(panels, found.items(), strict=False):
        for number, (arm, runs) in enumerate(arms.items()):
            draw_band(panel, np.array(list(runs[0])), kept(runs), look_of(number), arm)
        panel.set(title=task, xlabel="reach, in standard deviations", ylabel="share of the return kept")
    draw_legend(figure, panels)
    figure.set_layout_engine("constrained")
    replace_picture(path, figure, dpi=120)


def kept(runs: Sequence[Returns]) -> Band:
    """Return the mean over runs of the share of its undisturbed return that each keeps, by reach."""
    shares = np.array([[run[reach] / (run[0.0] or math.nan) for run in runs] for reach in runs[0]])
    draws = np.random.default_rng(0)
    return curve(mean, shares, np.array([len(runs)]), resamples=2000, generator=draws, fewest=FEWEST_RUNS)


def main() -> None:
    """Parse the command line and run."""
    parser = result.command_line(__doc__)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--epsilon", default="0.05,0.1,0.2", help="reaches of the adversary")
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--tasks", default="", help="only these")
    options = parser.parse_args()
    reaches, found = [float(reach) for reach in options.epsilon.split(",")], dict[str, dict[str, list[Returns]]]()
    for folder, (task, arm) in named(options.grid, [name for name in options.tasks.split(",") if name]).items():
        measured = attacked(folder, reaches, options.episodes)
        found.setdefault(task, {}).setdefault(arm, []).append(measured)
    counts = [len(runs) for arms in found.values() for runs in arms.values()]
    if not counts:
        raise SystemExit(f"{options.grid} has no finished run of {options.tasks or 'any task'}")
    result.save(
        options.results / "attacked.json",
        ("task", "arm", "seeds", *(spread_head(f"return at {reach:g}", counts) for reach in (0.0, *reaches))),
        table_rows(found),
        limits=f"Ten steps of gradient ascent, {options.episodes} episodes a run and reach, the final policies.",
        more={"values": {task: dict(arms) for task, arms in found.items()}},
    )
    draw(options.results / "attacked.png", found)


if __name__ == "__main__":
    main()
