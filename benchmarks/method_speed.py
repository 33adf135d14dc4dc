"""Images per second of every image method, beside SimCLR's on the same images and encoder.

    python -m benchmarks.method_speed [--rounds 5] [--seconds 2] [--device cpu] [--methods NAME ...]

An update is the one of `python -m rlrep.pretrain preset=cpu data=digits`: views, losses, gradients, step, targets. What
a method draws beside its batch (labelled images, an adversary's steps, a second pass) is part of its time, not of its
images. All methods are timed in turn. Writes results/method_speed_DEVICE.json.
"""

from collections.abc import Callable, Mapping, Sequence

import torch

from rlrep.config.pretrain_compose import compose_pretraining
from rlrep.loops.pretraining.job import build
from rlrep.process.machine import keep_large_blocks, set_threads
from rlrep.settings import groups

from . import result
from .timing import UPDATES, Numbers, Rounds, rate

BASE, BASE_ON_CLIPS = "simclr", "simclr on clips"
_MOVING = "data=moving_digits"
CLIPS = {"video_moco": (_MOVING, "method.dropper.after=0.0"), BASE_ON_CLIPS: (_MOVING,)}
"""Arms whose images are clips of eight frames, and the words that say so; the adversary is there from the start."""
ENCODERS: Mapping[str, tuple[int, tuple[str, ...]]] = {
    "small CNN": (256, ("encoder=small_cnn",)),
    "ResNet-18, width 16": (64, ("encoder=resnet18", "encoder.width=16")),
}
"""Batch size, and the words that choose the encoder."""


def arms() -> list[str]:
    """Return every method, and what the one for clips is held against."""
    return [*groups.names("method"), BASE_ON_CLIPS]


def updating(arm: str, encoder: str, device: str) -> Callable[[], None]:
    """Return an arm's update."""
    batch, words = ENCODERS[encoder]
    own = (f"method={arm.partition(' ')[0]}", *CLIPS.get(arm, ("data=digits",)), *words, f"train.batch_size={batch}")
    config = compose_pretraining([*own, "preset=cpu", "train.updates=1000000", "out=unused"]).config
    return build(config, torch.device(device))[2].update


def measure(names: Sequence[str], encoder: str, device: str, rounds: int, seconds: float) -> dict[str, Numbers]:
    """Time the updates of all arms in turn: images per second, and their ratio to SimCLR's."""
    loops = {arm: updating(arm, encoder, device) for arm in names}
    for loop in loops.values():
        loop()
    found = Rounds(names, rounds, lambda arm: {UPDATES: rate(loops[arm], device, seconds, stretch=1)})
    batch = ENCODERS[encoder][0]
    return {
        arm: {
            "images_per_second": round(batch * found.median(arm)[UPDATES], 1),
            "beside_simclr": round(found.ratio(arm, BASE_ON_CLIPS if arm in CLIPS else BASE)["ratio"], 3),
        }
        for arm in names
    }


def cells(found: Numbers) -> list[str]:
    """Return an arm's cells of the table, for one encoder."""
    return [f"{found['images_per_second']:.0f}", f"{found['beside_simclr']:.2f}x"]


def main() -> None:
    """Measure and write the results."""
    parser = result.timing(__doc__, seconds=2.0)
    parser.add_argument("--methods", nargs="*", default=None, help="only these, beside SimCLR")
    options = parser.parse_args()
    set_threads()
    keep_large_blocks()
    asked = set(options.methods or arms())
    names = [arm for arm in arms() if arm in {*asked, BASE} or (arm == BASE_ON_CLIPS and asked & set(CLIPS))]
    cases = {name: measure(names, name, options.device, options.rounds, options.seconds) for name in ENCODERS}
    result.save(
        options.results / f"method_speed_{options.device}.json",
        ("method", *(column for name in ENCODERS for column in (f"{name}, images/s", "beside SimCLR"))),
        [[arm, *(cell for case in cases.values() for cell in cells(case[arm]))] for arm in names],
        limits=f"Digits at 32x32, clips at 20x20x8 (beside SimCLR on clips); batches of "
        f"{' and '.join(str(batch) for batch, _ in ENCODERS.values())}; medians of {options.rounds} rounds.",
        more={"rounds": options.rounds, "cases": cases},
    )


if __name__ == "__main__":
    main()
