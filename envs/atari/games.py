"""Names and files of the games that ale-py bundles."""

import contextlib
import difflib
import io
import os
import re
from pathlib import Path

from ale_py import ALEInterface, roms


def find_game(name: str) -> str:
    """Return the ROM's name of `RoadRunner`, `road-runner` or `road_runner`. Raises ValueError naming the nearest."""
    known = {_plain(rom): rom for rom in roms.get_all_rom_ids()}
    found = known.get(_plain(name))
    if found is None:
        near = [known[key] for key in difflib.get_close_matches(_plain(name), known, n=3, cutoff=0.5)]
        hint = f"did you mean {', '.join(near)}?" if near else f"one of {', '.join(sorted(known.values()))}"
        raise ValueError(f"env.game={name} is unknown: {hint}")
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
