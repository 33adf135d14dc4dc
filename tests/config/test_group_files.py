"""Group files and modules that somebody wrote, found by --config-dir: what is wrong with them is one line."""

from pathlib import Path
from typing import Any

import pytest

from rlrep.commands.bench import main as bench
from rlrep.commands.pretrain import main as pretrain
from rlrep.commands.train import main as train
from rlrep.config.compose import compose_run
from rlrep.settings import ConfigError

ENV = b"# @package _global_\nenv:\n  _target_: %s\n"
MODULES = {"broken_import": "import no_such_thing", "broken_syntax": "def (:", "broken_code": "1 / 0", "empty_one": ""}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1\n", "mine.yaml"),
        (b"a: {b: ${c}}\n", "mine.yaml"),
        (b"\xff\xfe\x00", "cannot compose env=mine"),
        (b"", "its file gives env no _target_"),
        (b"- a\n- b\n", "its file gives env no _target_"),
        (b"# @package _global_\nenv: 3\n", "its file gives env no _target_"),
        (b"num_envs: 2\n", "its file gives env no _target_"),
        (b"# @package _global_\ndefaults: [nothing]\n", "nothing"),
        (ENV % b"no_such_module.X", "cannot load no_such_module.X (No module named 'no_such_module')"),
        (ENV % b"broken_import.X", "cannot load broken_import.X (No module named 'no_such_thing')"),
        (ENV % b"broken_syntax.X", "cannot load broken_syntax.X (SyntaxError: invalid syntax"),
        (ENV % b"broken_code.X", "cannot load broken_code.X (ZeroDivisionError: division by zero)"),
        (ENV % b"empty_one.X", "cannot load empty_one.X"),
    ],
)
def test_a_broken_file_is_one_line(
    content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "mine.yaml").write_bytes(content)
    for name, code in MODULES.items():
        (tmp_path / f"{name}.py").write_text(code)
    assert train(["env=mine", "--config-dir", str(tmp_path), "--cfg"]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert message in error


def test_a_folder_is_no_group_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "env" / "mine.yaml").mkdir(parents=True)
    assert train(["env=mine", "--config-dir", str(tmp_path)]) == 2
    assert "env=mine is not known" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"a: [1\n", b"\xff", b"3\n", b""])
@pytest.mark.parametrize("group", ["aux", "augment", "agent", "suite", "encoder", "method"])
def test_every_group_of_files_is_read_so(
    group: str, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / group).mkdir()
    (tmp_path / group / "mine.yaml").write_bytes(content)
    command, words = {"suite": (bench, "--dry-run"), "method": (pretrain, "data=digits")}.get(group, (train, "env=toy"))
    assert command([f"{group}=mine", words, "--config-dir", str(tmp_path), "--cfg"]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")


def write(folder: Path, **files: str) -> list[Path]:
    """Write group files, `env__mine` to env/mine.yaml, and return what --config-dir gives."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text if text.startswith("#") else f"# @package _global_\n{text}")
    return [folder]


CASES = """
train: {agent_steps: 5}
agent: {batch_size: 1}
when:
  rainbow: {agent: {batch_size: 2}}
  state:
    agent: {batch_size: 3}
    defaults: [override /augment: amplitude_scale]
    when: {mine: {seed: 7}, else: {seed: 8}}
  else: {agent: {batch_size: 4}}
"""


def test_the_first_case_that_holds_counts_and_may_choose_and_have_cases(tmp_path: Path) -> None:
    folders = write(tmp_path, preset__mine=CASES)
    states = compose_run(["env=toy_state", "preset=mine"], folders)
    assert (states.tree["agent"]["batch_size"], states.tree["seed"]) == (3, 7)
    assert states.config.choices["augment"] == "amplitude_scale"
    for words, size in ((["env=toy"], 4), (["env=toy", "agent=rainbow"], 2), (["env=toy", "agent.batch_size=9"], 9)):
        assert compose_run([*words, "preset=mine"], folders).tree["agent"]["batch_size"] == size


def test_a_list_of_cases_is_several_questions(tmp_path: Path) -> None:
    questions = "[{state: {seed: 1, agent: {lr: 1}}, pixels: {seed: 2}}, {mine: {seed: 3}, else: {seed: 4}}]"
    folders = write(tmp_path, preset__mine=f"train: {{agent_steps: 5}}\nwhen: {questions}\n")
    tree = compose_run(["env=toy_state", "preset=mine"], folders).tree
    assert (tree["agent"]["lr"], tree["seed"]) == (1, 3)


@pytest.mark.parametrize("obs", ["state", "pixels"])
def test_an_agent_is_as_small_as_a_preset_says_whatever_it_sees(obs: str) -> None:
    sizes = {"paper": (512, 256, 256, 10000), "cpu": (256, 64, 128, None), "debug": (64, 16, 32, 100)}
    for preset, (*expected, start) in sizes.items():
        config: Any = compose_run(["env=dmc_walker_run", f"env.obs={obs}", "agent=mrq", f"preset={preset}"]).config
        agent = config.agent
        assert [agent.hidden_dim, agent.action_width, agent.batch_size] == expected
        assert start in (None, config.train.init_steps)


def test_who_wins_over_whom(tmp_path: Path) -> None:
    mine = "defaults: [toy_state]\nagent: {lr: 1}\nseed: 1\nwhen: {mine: {seed: 3}}\n"
    preset = "defaults: [override /encoder: mlp]\ntrain: {agent_steps: 5}\nseed: 2\nagent: {lr: 2}\n"
    folders = write(tmp_path, env__mine=f"{mine}", preset__mine=preset)
    tree = compose_run(["env=mine", "preset=mine"], folders).tree
    assert (tree["agent"]["lr"], tree["seed"]) == (2, 3), "a preset over an environment, whose `when` is over it"
    made = [compose_run(["env=mine", "preset=mine", f"agent={agent}"], folders) for agent in ("sac", "sb3_sac")]
    assert [each.config.choices["encoder"] for each in made] == ["mlp", "sb3"]
    asked = compose_run(["env=mine", "preset=mine", "agent=sb3_sac", "encoder=identity"], folders)
    assert asked.config.choices["encoder"] == "identity"
    assert compose_run(["env=atari_pong", "encoder=auto"]).config.choices["encoder"] == "curl"


def test_a_preset_says_nothing_of_a_head_whose_pull_is_asked_for() -> None:
    heads = compose_run(["env=cheetah_vel", "aux=[ccm,self_prediction]", "aux.ccm.pull=balanced"]).config.aux
    assert (heads["ccm"].pull, heads["ccm"].weight) == ("balanced", 1.0)
    assert (heads["self_prediction"].pull, heads["self_prediction"].weight) == ("sum", 5.0)


@pytest.mark.parametrize(
    ("files", "words", "message"),
    [
        ({"preset__mine": "", "preset__mine_state": ""}, "preset=mine", "say `when: {state: ...}` in mine.yaml"),
        ({"aux__curl_state": "seed: 2"}, "aux=curl", "say `when: {state: ...}` in curl.yaml"),
        ({"env__mine": "defaults: [mine]"}, "env=mine", "it builds on itself"),
        ({"env__mine": "defaults: [toy_stat]"}, "env=mine", "env=toy_stat is not known: did you mean toy_state?"),
        ({"env__mine": "defaults: [toy_state, {override /preset: cpu}]"}, "env=mine", "/preset` has no place here"),
        ({"preset__mine": "defaults: [{override /augmnt: none}]"}, "preset=mine", "did you mean augment?"),
        ({"preset__mine": "defaults: [{/augment: none}]"}, "preset=mine", "defaults lists files of its group"),
        ({"preset__mine": "defaults: 3"}, "preset=mine", "defaults lists files of its group"),
        ({"preset__mine": "when: [state]"}, "preset=mine", "when holds state"),
        ({"preset__mine": "when: {else: {}, state: {}}"}, "preset=mine", "`when: state` is never reached"),
        ({"preset__mine": "when: {state: {}, pixels: {}, mine: {}}"}, "preset=mine", "`when: mine` is never reached"),
        ({"preset__mine": "when: {state: 3}"}, "preset=mine", "when: state holds 3"),
        ({"preset__mine": "when: {state: {defaults: [cpu]}}"}, "preset=mine", "take it out of `when: state`"),
        ({"encoder__mine": "defaults: [mlp, {override /augment: none}]"}, "encoder=mine", "has no place here"),
        ({"agent__mine": "agent: {_target_: own_agent.Mine}"}, "agent=mine", "Mine.auto is not read any more"),
    ],
)
def test_what_a_file_cannot_say_is_one_line(
    files: dict[str, str], words: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_agent.py").write_text(
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Mine:\n    auto = {'encoder': 'mlp'}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError) as error:
        compose_run(["env=toy_state", *words.split()], write(tmp_path, **files))
    assert message in str(error.value) and "\n" not in str(error.value)
