"""The typed border and the command line's composition: what is accepted, and the one line for what is not."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from gymnasium import spaces

import rlrep
from rlrep.config.compose import compose_run
from rlrep.config.config import Compile, TrainConfig, make_config, plan_length, updates_by
from rlrep.config.overrides import expand
from rlrep.config.pretrain_compose import compose_pretraining
from rlrep.loops.compile_rule import choose_compile
from rlrep.settings import ConfigError, UserError, build, coerce, groups, plain
from rlrep.ssl import Autoencoder
from rlrep.ssl.data import Digits
from rlrep.views import NoChange, RandomShift, View


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    mode: Literal["off", "fast"] = "fast"


@dataclass(frozen=True)
class Outer:
    steps: int
    inner: Inner = Inner()
    name: str | None = None
    widths: tuple[int, ...] = (1, 2)
    span: tuple[float, float] = (0.0, 1.0)
    more: Mapping[str, Inner] | None = None
    jobs: int | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError("steps must not be negative")


def test_values_become_what_the_annotation_says() -> None:
    node = {
        "steps": 1e3,
        "inner": {"rate": 1, "mode": False},
        "name": None,
        "widths": [4],
        "span": [0, 2],
        "more": {"a": {"rate": 2}},
    }
    built = build(Outer, node, "")
    assert built == Outer(1000, Inner(1.0, "off"), None, (4,), (0.0, 2.0), {"a": Inner(2.0)})
    assert isinstance(built.steps, int) and isinstance(built.inner.rate, float)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"steps": 1.5}, "steps=1.5: expected a whole number"),
        ({"steps": True}, "steps=true: expected a whole number"),
        ({"steps": "many"}, "steps=many: expected a whole number"),
        ({}, "needs steps"),
        ({"steps": 1, "stpes": 2}, "unknown option stpes: did you mean steps?"),
        ({"steps": 1, "inner": {"rate": "x"}}, "inner.rate=x: expected a number"),
        ({"steps": 1, "inner": {"mode": "fats"}}, "did you mean fast? valid: fast, off"),
        ({"steps": 1, "widths": 3}, "widths=3: expected a list"),
        ({"steps": 1, "widths": [1, "a"]}, "widths[1]=a: expected a whole number"),
        ({"steps": 1, "span": [1]}, "expected a list of 2"),
        ({"steps": -1}, "steps must not be negative"),
        ({"steps": None}, "steps=null: expected a whole number"),
        ({"steps": 1, "jobs": "two"}, "jobs=two: expected a whole number or auto"),
    ],
)
def test_wrong_values_are_named_in_one_line(node: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        build(Outer, node, "")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


class Animal:
    """A kind of component, with what its components need not say."""

    legs = 4

    def sound(self) -> str:
        return "none"


@dataclass(frozen=True)
class Bird:
    """A component that knows nothing of its kind."""

    colour: str = "red"
    legs = 2


@dataclass(frozen=True)
class Zoo:
    animal: Animal


def test_a_component_is_completed_by_its_kind() -> None:
    animal = coerce({"animal": {"_target_": f"{__name__}.Bird", "colour": "blue"}}, Zoo, "").animal
    assert (animal.colour, animal.legs, animal.sound()) == ("blue", 2, "none")
    assert replace(animal, colour="green").sound() == "none"
    assert ForkingPickler.loads(ForkingPickler.dumps(animal)) == Bird("blue"), "workers need the component alone"
    assert plain(animal) == {"_target_": f"{__name__}.Bird", "colour": "blue"}


def test_a_number_is_no_bool_and_a_switch_is() -> None:
    assert coerce("off", bool, "x") is False
    with pytest.raises(ConfigError, match="x=1: expected true or false"):
        coerce(1, bool, "x")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["env=toy_stat"], "did you mean toy_state?"),
        (["agent=sca"], "did you mean sac? valid:"),
        (["aux=return_contrats"], "did you mean return_contrast?"),
        (["aux=[curl,none,foo]"], "aux=foo is not known"),
        (["train.evl_every=3"], "did you mean train.eval_every?"),
        (["eval_every=3"], "did you mean train.eval_every?"),
        (["sed=3"], "did you mean seed?"),
        (["agent.batchsize=3"], "did you mean agent.batch_size?"),
        (["aux.curl.weight=1"], "that head is not active, add aux=curl"),
        (["aux=curl", "aux.curl.wait=1"], "did you mean aux.curl.weight?"),
        (["aux=curl", "aux.curl.view=random_corp"], "did you mean random_crop?"),
        (["agent.batch_size=abc"], "agent.batch_size=abc: expected a whole number"),
        (["compile=of"], "did you mean off?"),
        (["device=gpu"], "valid: auto, cpu, cuda"),
        (["train.agent_steps=3", "train.env_steps=4"], "train.agent_steps or train.env_steps, not both"),
        (["env=dmc", "env.domain=fish"], "env.task has no value yet: give env.task=..."),
        (["train.env_steps=null"], "the run has no length"),
        (["train.agent_steps=0"], "agent_steps must be at least 1"),
        (["seed=range(0,3)"], "is a sweep: add -m"),
        (["aux=curl,none"], "is a sweep: add -m"),
        (["seed=-1"], "seed must be at least 0"),
        (["seed"], "write key=value"),
        (["seed=["], "cannot read 'seed=['"),
        (["~env"], "write key=value"),
        (["agent.target_entropy=nan"], "agent.target_entropy=nan: expected a number"),
        (["encoder.latent_dim=0"], "encoder: latent_dim must be at least 1"),
        (["encoder.strides=[1,a]"], "encoder.strides[1]=a: expected a whole number"),
        (["agent._target_=os.system"], "unknown option agent._target_"),
        (["choices.env=x"], "unknown option choices.env"),
        (["train=3"], "train=3: expected one of its options"),
        (["train={evl_every:3}"], "did you mean eval_every?"),
    ],
)
def test_a_wrong_command_is_one_line_with_the_valid_names(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose_run(["env=toy_pixels", *words])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_states_and_pixels_get_their_own_encoder_augmentation_and_settings() -> None:
    pixels, states = (compose_run([f"env={name}", "preset=paper"]) for name in ("toy_pixels", "toy_state"))
    assert (pixels.config.choices["encoder"], states.config.choices["encoder"]) == ("curl", "mlp")
    assert states.config.choices["augment"] == "none"
    assert type(states.config.augment).__name__ == "NoChange"
    assert states.tree["agent"]["batch_size"] != pixels.tree["agent"]["batch_size"]
    assert states.config.choices["agent"] == "sac"


def test_an_environment_asked_for_states_drops_its_frames_augmentation() -> None:
    pixels, states = compose_run(["env=dmc_cheetah"]), compose_run(["env=dmc_cheetah", "env.obs=state"])
    assert type(pixels.config.augment).__name__ == "RandomCrop"
    assert type(states.config.augment).__name__ == "NoChange"
    assert states.config.choices["encoder"] == "mlp"
    assert (pixels.tree["agent"]["lr"], states.tree["agent"]["lr"]) == (2e-4, 3e-4), "CURL's rate is for pixels only"


def test_settings_for_one_kind_of_observation_stay_there(tmp_path: Path) -> None:
    (tmp_path / "preset").mkdir()
    (tmp_path / "preset" / "mine.yaml").write_text(
        "# @package _global_\ntrain:\n  agent_steps: 5\nwhen:\n  pixels:\n    agent:\n      batch_size: 7\n"
    )
    pixels, states = (compose_run([f"env={env}", "preset=mine"], [tmp_path]) for env in ("toy_pixels", "toy_state"))
    assert pixels.tree["agent"]["batch_size"] == 7 != states.tree["agent"]["batch_size"]
    assert "when" not in pixels.tree
    asked = compose_run(["env=toy_pixels", "preset=mine", "agent.batch_size=9"], [tmp_path])
    assert asked.tree["agent"]["batch_size"] == 9


def test_the_command_line_wins() -> None:
    words = ["env=toy_state", "encoder=identity", "augment=amplitude_scale", "augment.low=0.9", "agent.lr=1e-5"]
    config = compose_run(words).config
    assert (config.choices["encoder"], config.augment.low, config.augment.high) == ("identity", 0.9, 1.2)
    assert getattr(config.agent, "lr") == 1e-5  # noqa: B009  (nobody here knows an agent's fields)


def test_a_length_on_the_command_line_replaces_the_presets_in_either_unit() -> None:
    agent = compose_run(["env=toy_state", "preset=cpu", "train.agent_steps=7"]).config.train
    env = compose_run(["env=toy_state", "preset=debug", "train.env_steps=9"]).config.train
    assert (agent.agent_steps, agent.env_steps) == (7, None)
    assert (env.agent_steps, env.env_steps) == (None, 9)


@pytest.mark.parametrize("preset", groups.names("preset"))
def test_every_preset_sets_exactly_one_length(preset: str) -> None:
    for env in ("toy_state", "toy_pixels"):
        train = compose_run([f"env={env}", f"preset={preset}"]).config.train
        assert (train.agent_steps is None) != (train.env_steps is None)


@pytest.mark.parametrize("group", ["env", "agent", "aux", "augment", "encoder", "logger", "launcher"])
def test_every_file_of_every_group_composes_and_says_where_it_comes_from(group: str) -> None:
    for name in groups.names(group):
        if groups.find(group, name) is None:
            continue
        state = name.endswith("_state") or name in ("mlp", "identity")
        base = ["env=point_robot"] if name.startswith("pearl") else [f"env=toy_{'state' if state else 'pixels'}"]
        tasks = {"dmc": ["env.domain=fish", "env.task=swim"], "atari": ["env.game=pong"], "gym": ["env.id=Pendulum-v1"]}
        tasks |= {f"metaworld_{kind}": ["env.task=push-v3"] for kind in ("ml1", "mt1")}
        tasks["timm"] = ["encoder.name=resnet18"]
        compose_run([*(word for word in base if group != "env"), f"{group}={name}", *tasks.get(name, [])])
        assert "#" in (groups.ROOT / group / f"{name}.yaml").read_text()


def test_out_names_the_arm_and_hashes_what_else_was_set() -> None:
    plain = compose_run(["env=toy_state", "aux=[return_contrast,curl]", "seed=3", "device=cpu"]).config.out
    assert plain == "runs/toy_state/paper/sac-none-curl+return_contrast/seed3"
    other = compose_run(["env=toy_state", "agent.lr=0.1"]).config.out
    again = compose_run(["agent.lr=0.1", "env=toy_state", "video=false"]).config.out
    assert other == again and other.startswith("runs/toy_state/paper/sac-none-none-")
    assert other != compose_run(["env=toy_state", "agent.lr=0.2"]).config.out


def test_the_order_of_heads_does_not_matter() -> None:
    first, second = (
        compose_run(["env=toy_pixels", f"aux={order}"])
        for order in ("[curl,return_contrast]", "[return_contrast,curl]")
    )
    assert list(first.config.aux) == list(second.config.aux) == ["curl", "return_contrast"]
    assert first.config.out == second.config.out


def test_a_heads_view_is_named_like_an_augmentation() -> None:
    config = compose_run(["env=toy_pixels", "aux=curl", "aux.curl.view=random_crop", "aux.curl.view.size=12"]).config
    view: Any = config.aux["curl"].view
    assert (type(view).__name__, view.size) == ("RandomCrop", 12)
    assert type(config.augment).__name__ != "RandomCrop"


def test_sweeps_expand_to_their_product() -> None:
    jobs = expand(["env=a", "aux=none,curl,[curl,return_contrast]", "seed=range(0,2)"])
    assert len(jobs) == 6
    assert jobs[0] == ["env=a", "aux=none", "seed=0"]
    assert jobs[-1] == ["env=a", "aux=[curl,return_contrast]", "seed=1"]


def test_toy_is_short_for_the_pixel_one() -> None:
    toy, pixels = compose_run(["env=toy"]), compose_run(["env=toy_pixels"])
    assert toy.config.env == pixels.config.env and toy.config.encoder == pixels.config.encoder
    assert {"toy", "toy_pixels", "toy_state"} <= set(groups.names("env"))


def test_other_folders_and_entry_points_add_choices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "mine.yaml").write_text("# @package _global_\nenv:\n  _target_: rlrep.envs.toy.ToyState\n")
    assert compose_run(["env=mine"], [tmp_path]).config.choices["env"] == "mine"

    class Point:
        value = "rlrep.envs.toy:ToyState"

    class Head:
        value = "rlrep.heads:InstanceContrast"

    points = {"env": {"outside": Point()}, "aux": {"extra": Head()}}
    monkeypatch.setattr(groups, "registered", lambda group: points.get(group, {}))
    composed = compose_run(["env=outside", "env.num_envs=2", "aux=[extra,return_contrast]", "aux.extra.weight=0.5"])
    assert composed.config.env.num_envs == 2
    assert composed.config.aux["extra"].weight == 0.5
    assert composed.config.choices["aux"] == "extra+return_contrast"
    assert compose_run(["env=outside", "aux=extra"]).config.aux["extra"].weight == 1.0


@dataclass(frozen=True)
class Restored(Autoencoder):
    """A method as another package has it: every option has a default."""

    views: tuple[View, ...] = (NoChange(),)


def test_entry_points_add_methods_data_and_views(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"method": f"{__name__}:Restored", "data": "rlrep.ssl.data:Digits", "augment": "rlrep.views:RandomShift"}
    points = {group: {"outside": EntryPoint("outside", value, "")} for group, value in values.items()}
    monkeypatch.setattr(groups, "registered", lambda group: points.get(group, {}))
    words = ["method=outside", "data=outside", "data.size=16", "augment=outside", "augment.pad=2", "method.channels=4"]
    config = compose_pretraining([*words, "train.updates=5"]).config
    assert config.method == Restored((RandomShift(pad=2),), channels=4) and config.data == Digits(size=16)


def test_config_yaml_reads_back_to_the_same_run() -> None:
    composed = compose_run(["env=toy_pixels", "aux=[curl,return_contrast]", "aux.curl.view=random_crop"])
    assert make_config(yaml.safe_load(yaml.safe_dump(composed.tree))) == composed.config


def test_length_counts_action_repeats_and_whole_vector_steps() -> None:
    assert plan_length(TrainConfig(env_steps=1001), num_envs=1, action_repeat=4).agent_steps == 251
    length = plan_length(TrainConfig(agent_steps=1001, init_steps=1), num_envs=4, action_repeat=2)
    assert (length.agent_steps, length.env_steps, length.updates) == (1004, 2008, 1003)


def test_updates_due_add_up_for_any_number_of_environments() -> None:
    train = TrainConfig(agent_steps=1, init_steps=10, updates_per_step=0.3)
    for num_envs in (1, 3, 7):
        steps = range(0, 1050, num_envs)
        assert sum(updates_by(train, at + num_envs) - updates_by(train, at) for at in steps) == updates_by(
            train, steps[-1] + num_envs
        )
    assert updates_by(train, 10) == 0 and updates_by(train, 1010) == 300


@pytest.mark.parametrize(
    ("asked", "device", "pixels", "updates", "mode"),
    [
        ("auto", "cpu", True, 10**6, "off"),
        ("auto", "cpu", False, 19_999, "off"),
        ("auto", "cuda", True, 1, "cudagraph"),
        ("default", "cpu", True, 1, "default"),
    ],
)
def test_compile_auto_is_a_fixed_rule(asked: Compile, device: str, pixels: bool, updates: int, mode: str) -> None:
    assert choose_compile(asked, device=device, pixels=pixels, updates=updates).mode == mode


def test_compile_auto_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlrep.loops.compile_rule.find_compiler", lambda: "/usr/bin/g++")
    for pixels, updates, mode in ((False, 20_000, "default"), (True, 20_000, "default"), (True, 19_999, "off")):
        choice = choose_compile("auto", device="cpu", pixels=pixels, updates=updates, gains_on_pixels=True)
        assert choice.mode == mode
    monkeypatch.setattr("rlrep.loops.compile_rule.find_compiler", lambda: None)
    choice = choose_compile("auto", device="cpu", pixels=False, updates=20_000)
    assert choice.mode == "off" and "install g++" in choice.reason


def test_the_builders_work_without_hydra() -> None:
    env = rlrep.make_env("toy_pixels", num_envs=2)
    obs = env.reset([1, 2])
    agent = rlrep.make_agent(
        "sac", env, aux={"curl": {"weight": 0.5}}, augment="random_shift", options={"batch_size": 4, "capacity": 50}
    )
    assert agent.act(obs, explore=False).shape == (2, 1)
    head = rlrep.make_aux("return_contrast", latent_dim=8, action_space=spaces.Box(-1, 1, (2,)))
    assert any(parameter.requires_grad for parameter in head.parameters())
    env.close()


@pytest.mark.parametrize(
    ("build_it", "message"),
    [
        (lambda: rlrep.make_env("toy_pixel"), "did you mean toy_pixels?"),
        (lambda: rlrep.make_env("toy_state", options={"num": 1}), "unknown option env.num"),
        (lambda: rlrep.make_aux("crul", latent_dim=1, action_space=spaces.Box(-1, 1, (2,))), "did you mean curl?"),
    ],
)
def test_the_builders_name_what_is_wrong(build_it: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        build_it()


@pytest.mark.parametrize(
    ("env", "augment", "of"), [("state", "random_crop", "pixels"), ("pixels", "amplitude_scale", "states")]
)
def test_an_augmentation_for_the_other_kind_of_observation_is_refused(env: str, augment: str, of: str) -> None:
    with pytest.raises(UserError, match=f"it is for {of}"):
        rlrep.make_agent("sac", rlrep.make_env(f"toy_{env}"), augment=augment, options={"capacity": 50})


def test_heads_take_the_settings_of_the_environments_family() -> None:
    words = ["env=atari_pong", "aux=[temporal,curl,return_contrast]", "aux.curl.weight=0.5"]
    config: Any = compose_run(words).config
    curl, returns, later = (config.aux[name] for name in ("curl", "return_contrast", "temporal"))
    assert (type(curl.view).__name__, curl.tau, curl.weight) == ("CropPadCrop", 0.001, 0.5)
    assert (returns.mode, returns.tau, later.offset) == ("reward_event", 0.001, 3)
    assert config.choices["aux"] == "curl+return_contrast+temporal"
    assert compose_run(["env=atari_pong", "aux=curl_weak"]).config.aux["curl"].weight == 0.05
    plain: Any = compose_run(["env=toy_pixels", *words[1:]]).config.aux
    assert (plain["return_contrast"].mode, plain["temporal"].offset) == ("return_threshold", 1)


def test_bins_are_of_windows_except_on_atari() -> None:
    """Every head with return bins, by the env's family; an option from the command line still comes first."""
    words = ["aux=[temporal,curl,return_contrast,sup_con_return]", "aux.curl.mask_same_return=true"]
    plain: Any = compose_run(["env=dmc_cartpole", *words]).config.aux
    assert {(head.discount, head.horizon) for head in plain.values()} == {(0.9, 20)}
    games: Any = compose_run(["env=atari_pong", *words]).config.aux
    assert {(head.discount, head.horizon) for head in games.values()} == {(1.0, None)}
    assert plain.keys() == games.keys() and len(games) == 4
    weak: Any = compose_run(["env=atari_pong", "aux=curl_weak", "aux.curl.horizon=5"]).config.aux["curl"]
    assert (weak.discount, weak.horizon) == (1.0, 5)
    assert plain["return_contrast"].threshold is None and plain["sup_con_return"].mode == "return_bin"
    with pytest.raises(UserError, match="horizon must be at least 1, not 0"):
        compose_run(["env=dmc_cartpole", "aux=curl", "aux.curl.horizon=0"])


def test_importing_rlrep_and_the_entry_points_stays_light() -> None:
    heavy = "{'torch', 'numpy', 'hydra', 'mujoco'}"
    code = f"import sys, rlrep, rlrep.train, rlrep.evaluate; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_compilation_that_cannot_run_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="needs a GPU"):
        choose_compile("cudagraph", device="cpu", pixels=True, updates=10)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match="install g\\+\\+"):
        choose_compile("default", device="cpu", pixels=False, updates=10)
