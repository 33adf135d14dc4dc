"""Names and files of the games that ale-py bundles, what random play and people score on some, protocols' rules."""

import contextlib
import io
import os
import re
from pathlib import Path
from typing import NamedTuple

from ale_py import ALEInterface, roms

from rlrep.settings import hint

SCORES = {
    "alien": (227.8, 7127.7), "amidar": (5.8, 1719.5), "assault": (222.4, 742.0), "asterix": (210.0, 8503.3),
    "bank_heist": (14.2, 753.1), "battle_zone": (2360.0, 37187.5), "boxing": (0.1, 12.1), "breakout": (1.7, 30.5),
    "chopper_command": (811.0, 7387.8), "crazy_climber": (10780.5, 35829.4), "demon_attack": (152.1, 1971.0),
    "freeway": (0.0, 29.6), "frostbite": (65.2, 4334.7), "gopher": (257.6, 2412.5), "hero": (1027.0, 30826.4),
    "jamesbond": (29.0, 302.8), "kangaroo": (52.0, 3035.0), "krull": (1598.0, 2665.5),
    "kung_fu_master": (258.5, 22736.3), "ms_pacman": (307.3, 6951.6), "pong": (-20.7, 14.6),
    "private_eye": (24.9, 69571.3), "qbert": (163.9, 13455.0), "road_runner": (11.5, 7845.0),
    "seaquest": (68.4, 42054.7), "up_n_down": (533.4, 11693.2),
}  # fmt: skip
"""Random and human score of the 26 games of Atari-100k (Kaiser et al. 2020, arXiv 1903.00374), as MuZero and rliable
use them (Schrittwieser et al. 2020; Agarwal et al. 2021). Krull's random score is disputed as too high."""


class Rules(NamedTuple):
    """What a protocol settles. sticky: probability that a frame repeats the action before. The rest as in `Atari`."""

    sticky: float
    life_loss: bool
    full_actions: bool
    noop_max: int


PROTOCOLS = {
    "atari100k": Rules(sticky=0.0, life_loss=True, full_actions=False, noop_max=30),
    "machado": Rules(sticky=0.25, life_loss=False, full_actions=True, noop_max=0),
}


def find_game(name: str) -> str:
    """Return the ROM's name of `RoadRunner`, `road-runner` or `road_runner`. Raises ValueError naming the nearest."""
    known = {_plain(rom): rom for rom in roms.get_all_rom_ids()}
    found = known.get(_plain(name))
    if found is None:
        raise ValueError(f"env.game={name} is unknown{hint(name.lower(), known.values())}")
    return found


def rom_path(game: str) -> Path:
    """Return the file of a known game. Raises RuntimeError, in one line, if it is missing, damaged or not playable."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it announces ALE_ROMS_DIR
            path = roms.get_rom_path(game)
    except OSError as error:
        folder = os.environ.get("ALE_ROMS_DIR") or Path(roms.__file__).parent
        advice = "unset ALE_ROMS_DIR" if os.environ.get("ALE_ROMS_DIR") else "reinstall ale-py"
        line = " ".join(str(error).split())
        raise RuntimeError(f"no sound ROM of {game} in {folder} ({line}): {advice}") from error
    assert path is not None, game
    if ALEInterface.isSupportedROM(path) is None:  # loading it would end the process
        raise RuntimeError(f"env.game={game} is for several players only, which the ALE does not run")
    return Path(path)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
