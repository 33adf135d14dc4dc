"""The figures of the code, and the way of a word of the command line to its dataclass."""

from pathlib import Path

from benchmarks.house import figures
from benchmarks.stays import BASE, follow

CODE = '''
def f(config):
    """`dmc_cheetah` in a docstring."""
    return getattr(config, "obs", "dmc_cheetah") or getattr(config, "own", None) or config.obs
'''


def test_figures_count_what_is_there(tmp_path: Path) -> None:
    for name, text in {"rlrep/a/b.py": CODE, "envs/c.py": "x = 1\n", "configs/env/dmc_cheetah.yaml": "a: 1\n"}.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "rlrep" / "envs").symlink_to(tmp_path / "envs")
    found = figures(tmp_path)
    assert (found["lines of code"], found["lines that are no tests"], found["files of code"]) == ("5", "6", "2")
    assert (found["largest room"], found["function length: longest"]) == ("a 80.0%", "3 b.f")
    assert (found["abilities asked by getattr or hasattr"], found["names of envs and agents in rlrep/"]) == ("1", "1")


def test_a_word_passes_few_files_and_comes_back_to_none_but_the_first() -> None:
    for word, value in (("agent.lr=0.0123", 0.0123), ("aux.curl.weight=0.0123", 0.0123)):
        stays = follow([*BASE, "env=toy_state", word], value)
        assert len(stays) <= 8 and len(stays) - len(set(stays)) <= 1, stays
