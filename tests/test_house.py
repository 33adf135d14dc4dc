"""The figures of the code, and the way of a word of the command line to its dataclass."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.house import ABILITIES, figures
from benchmarks.stays import BASE, follow
from rlrep.contract.agent import AgentConfig
from rlrep.contract.env import EnvConfig, Savable
from rlrep.heads import HeadConfig
from rlrep.nn import EncoderConfig
from rlrep.ssl.data import DataConfig

CODE = '''
def f(config):
    """`dmc_cheetah` in a docstring."""
    return getattr(config, "obs", "dmc_cheetah") or getattr(config, "own", None) or config.obs or "auto" in dir(config)

def known(config, name):
    return getattr(config, name, None) or getattr(config, name)

def handed_on(config, name):
    return known(config, name)

def g(config):
    return handed_on(config, "view"), known(config, "own"), f("view")
'''


def test_figures_count_what_is_there(tmp_path: Path) -> None:
    for name, text in {"rlrep/a/b.py": CODE, "envs/c.py": "x = 1\n", "configs/env/dmc_cheetah.yaml": "a: 1\n"}.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "rlrep" / "envs").symlink_to(tmp_path / "envs")
    found = figures(tmp_path)
    assert (found["lines of code"], found["lines that are no tests"], found["files of code"]) == ("14", "15", "2")
    assert (found["largest room"], found["function length: longest"]) == ("a 92.9%", "3 b.f")
    asked = [found[f"abilities asked by {how}"] for how in ("getattr or hasattr", "a function that does so")]
    assert asked == ["2", "1"] and found["names of envs and agents in rlrep/"] == "1"


@pytest.mark.parametrize("base", [AgentConfig, DataConfig, EncoderConfig, EnvConfig, HeadConfig, Savable])
def test_all_that_a_base_fills_in_counts_as_an_ability(base: type[Any]) -> None:
    names = {*vars(base), *vars(base).get("__annotations__", {})}
    assert {name for name in names if not name.startswith("_")} <= set(ABILITIES)


def test_a_word_passes_few_files_and_comes_back_to_none() -> None:
    words: tuple[tuple[str, object, int], ...] = (
        ("agent.lr=0.0123", 0.0123, 6),
        ("aux.curl.weight=0.0123", 0.0123, 6),
        ("augment=shift_intensity", "shift_intensity", 8),
    )
    for word, value, most in words:
        stays = follow([*BASE, "env=toy_pixels", word], value)
        assert len(stays) == len(set(stays)) <= most, stays
