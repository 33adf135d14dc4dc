"""Atari games one by one: names, protocols, ends, exact state, worker processes, frames for pretraining."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlrep.config.compose import compose_run
from rlrep.config.config import plan_length
from rlrep.config.make import load_component
from rlrep.config.simulators import build_envs
from rlrep.envs.atari.env import Atari, AtariEnv
from rlrep.envs.atari.games import SCORES, find_game
from rlrep.envs.vector import WorkerVector, make_vector
from rlrep.loops.frames import collect_frames
from rlrep.record.tree import join, split
from rlrep.settings import ConfigError, UserError, groups
from rlrep.ssl.data.frames import read_frames


def play(env: AtariEnv, steps: int, seed: int = 0) -> list[tuple[Any, ...]]:
    """Step with random actions, as the vector environments do."""
    random = np.random.default_rng(seed)
    found: list[tuple[Any, ...]] = []
    for _ in range(steps):
        obs, reward, terminated, truncated, info = env.step(random.integers(env.action_space.n))  # type: ignore[attr-defined]
        found.append((obs, reward, terminated, truncated, info.get("score")))
        if terminated or truncated:
            found.append(env.reset())
    return found


def same(left: Any, right: Any) -> bool:
    if isinstance(left, np.ndarray):
        return np.array_equal(left, right)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


@pytest.mark.parametrize("name", ["RoadRunner", "road_runner", "Roadrunner", "road-runner", "ROAD RUNNER"])
def test_games_by_any_spelling(name: str) -> None:
    assert Atari(name).rom == "road_runner"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"game": "Rodrunner"}, "env.game=Rodrunner is unknown: did you mean road_runner"),
        ({"game": "!!"}, "is unknown: valid: adventure, air_raid, alien"),
        ({"sticky": 0.25}, "env.sticky=0.25 contradicts env.protocol=atari100k, which has 0.0"),
        ({"protocol": "machado", "life_loss": True}, "env.life_loss=True contradicts env.protocol=machado"),
        ({"protocol": "machado", "full_actions": False}, "say env.protocol=custom"),
        ({"protocol": "custom", "sticky": 2.0}, r"env.sticky must be in \[0, 1\]"),
        ({"frame_skip": 0}, "env.frame_skip must be 1 to 1,024"),
    ],
)
def test_what_does_not_fit_is_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        Atari(**{"game": "pong", **options})
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=message):
        load_component("env", "atari_pong", options)


def test_a_game_that_nobody_named_is_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"^env\.game has no value yet: give env\.game=\.\.\.$"):
        load_component("env", "atari")


def test_a_missing_rom_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    for options in ({"workers": "inline"}, {"backend": "vector"}):
        with pytest.raises(UserError, match=r"no sound ROM of pong in .*: unset ALE_ROMS_DIR") as error:
            build_envs(load_component("env", "atari_pong", options), [0])
        assert "\n" not in str(error.value)
    (tmp_path / "pong.bin").write_bytes(b"damaged")
    with pytest.raises(RuntimeError, match="The hash of pong"):
        Atari("pong").make(0)
    assert capsys.readouterr().out == ""


def test_a_game_for_several_players_is_refused_before_it_ends_the_process() -> None:
    for config in (Atari("combat", workers="inline"), Atari("combat", backend="vector")):
        with pytest.raises(UserError, match=r"env.game=combat is for several players only"):
            build_envs(config, [0])


def test_the_26_games_are_named_configs_with_scores() -> None:
    named = {name.removeprefix("atari_") for name in groups.names("env") if name.startswith("atari_")}
    assert named == set(SCORES) and len(named) == 26
    for game in named:
        config = load_component("env", f"atari_{game}")
        assert config == Atari(game) and config.rom == find_game(game) == game
        scoring = config.scoring()
        assert (scoring.zero, scoring.one) == SCORES[game] and scoring.one > scoring.zero
    assert Atari("zaxxon").scoring().one is None


def test_protocols() -> None:
    hundred, machado = Atari("breakout").rules, Atari("breakout", protocol="machado").rules
    assert hundred == (0.0, True, False, 30) and machado == (0.25, False, True, 0)
    assert Atari("breakout", protocol="custom", life_loss=False).rules == hundred._replace(life_loss=False)
    assert Atari("breakout", sticky=0.0, life_loss=True).rules == hundred
    assert Atari("breakout").make(0).action_space.n == 4  # type: ignore[attr-defined]
    assert Atari("breakout", protocol="machado").make(0).action_space.n == 18  # type: ignore[attr-defined]
    played = Atari("breakout", protocol="machado").evaluation()
    assert played.rules == machado and not played.training and played.backend == "vector"


@pytest.mark.parametrize(
    ("preset", "agent_steps", "final"), [("paper", 100_000, 100), ("cpu", 25_000, 20), ("debug", 400, 2)]
)
def test_a_run_is_atari_100k(preset: str, agent_steps: int, final: int) -> None:
    config = compose_run(["env=atari_pong", f"preset={preset}"]).config
    train = config.train
    assert plan_length(train, num_envs=1, action_repeat=4).env_steps == 4 * agent_steps and train.env_steps is None
    assert (train.final_episodes, train.eval_epsilon, config.choices["augment"]) == (final, 0.001, "none")
    assert config.env.clip_rewards and config.env.protocol == "atari100k"  # type: ignore[attr-defined]
    if preset == "paper":
        assert (train.init_steps, train.eval_every, train.eval_episodes) == (1600, 40_000, 10)
    longer = compose_run(["env=atari", "env.game=Pong", f"preset={preset}", "train.env_steps=8000"]).config.train
    assert (longer.agent_steps, longer.env_steps) == (None, 8000)


def test_a_lost_life_ends_an_episode_of_training_but_not_the_game() -> None:
    env = Atari("breakout").make(1)
    env.reset(seed=1)
    lives, scores, clipped = [], [], 0.0
    for _ in range(400):
        obs, reward, terminated, truncated, info = env.step(np.int64(1))
        assert not truncated and ("score" in info) <= terminated and abs(reward) <= 1.0
        clipped += reward
        if terminated:
            lives.append(env._ale.lives())
            frames = env._ale.getEpisodeFrameNumber()
            begun = env.reset()[0]
            assert (begun == (begun[-1] if "score" in info else obs[-1])).all(), "the stack begins anew"
            assert "score" in info or env._ale.getEpisodeFrameNumber() == frames, "the same game goes on"
            scores += [info["score"]] if "score" in info else []
    assert lives[:5] == [4, 3, 2, 1, 0] and len(scores) >= 2, "the last life is game over"
    full = Atari("breakout").evaluation().make(1)
    full.reset(seed=1)
    ends = [info.get("score") for *_, terminated, _, info in (full.step(np.int64(1)) for _ in range(400)) if terminated]
    assert ends[0] == scores[0]


def test_rewards_are_clipped_in_training_only_and_the_score_is_not() -> None:
    env, full = Atari("ms_pacman").make(0), Atari("ms_pacman").evaluation().make(0)
    for each in (env, full):
        each.reset(seed=0)
    actions = np.random.default_rng(0).integers(9, size=1500)
    total, clipped, raw = 0.0, [], []
    for action in actions:
        _, reward, terminated, _, info = env.step(action)
        _, plain, over, _, end = full.step(action)
        clipped.append(reward)
        raw.append(plain)
        total += plain
        if terminated and "score" not in info:
            env.reset()
        assert over == ("score" in info) and info == end
        if over:
            assert info["score"] == total > 5
            break
    assert over and max(raw) > 1 and [np.sign(r) for r in raw] == clipped


def test_the_time_limit_truncates() -> None:
    env = Atari("pong", max_frames=42, protocol="custom", noop_max=0).make(0)
    env.reset(seed=0)
    ends = [env.step(np.int64(0))[2:4] for _ in range(11)]
    assert ends == [(False, False)] * 10 + [(False, True)]
    assert env.step(np.int64(0))[4]["score"] == 0.0


@pytest.mark.parametrize(("game", "protocol"), [("breakout", "atari100k"), ("road_runner", "machado")])
def test_a_saved_state_comes_back_bit_for_bit(game: str, protocol: Any) -> None:
    env, other = Atari(game, protocol=protocol).make(3), Atari(game, protocol=protocol).make(99)
    env.reset(seed=3)
    for steps in (60, 5):
        play(env, steps, seed=steps)
        data, tensors = split(env.state())
        state = join(json.loads(json.dumps(data)), {name: tensor.clone() for name, tensor in tensors.items()})
        frames, expected = np.array(env._frames), play(env, 500)
        assert same((frames, expected), (other.load_state(state), play(other, 500)))
        assert any(found[2] for found in expected if len(found) == 5), "an end within"
        env.load_state(state)


def test_a_state_between_a_lost_life_and_what_follows_comes_back() -> None:
    env, other = Atari("breakout").make(0), Atari("breakout").make(7)
    env.reset(seed=0)
    while not env.step(np.int64(1))[2]:
        pass
    state = env.state()
    assert state["goes_on"]
    other.load_state(state)
    assert same((env.reset()[0], play(env, 50)), (other.reset()[0], play(other, 50)))


def test_a_seed_is_a_game_whatever_came_before() -> None:
    env = Atari("pong", protocol="machado").make(0)
    first = (env.reset(seed=4)[0], play(env, 30))
    assert same(first, (env.reset(seed=4)[0], play(env, 30)))
    assert not same(first, (env.reset(seed=5)[0], play(env, 30)))


def test_a_lost_worker_drops_its_game_and_the_others_go_on() -> None:
    vector = make_vector(Atari("breakout"), [0, 1], workers=True)
    assert isinstance(vector, WorkerVector) and vector.gives_score
    vector.reset([0, 1])
    os.kill(vector._workers[0]._process.pid, signal.SIGKILL)
    vector.step_async(np.zeros(2, np.int64))
    with pytest.warns(RuntimeWarning, match="environment worker 0 was lost"):
        step = vector.step_wait()
    assert step.died.tolist() == [True, False] and step.truncated.tolist() == [True, False]
    state = vector.state()
    steps = []
    for _ in range(2):
        vector.load_state(state)
        for _ in range(40):
            vector.step_async(np.ones(2, np.int64))
            steps.append(vector.step_wait())
    vector.close()
    assert all(np.array_equal(one.obs, two.obs) for one, two in zip(steps[:40], steps[40:], strict=True))
    assert any(step.terminated.any() for step in steps[:40]) and not any(step.died.any() for step in steps)


def test_workers_and_inline_agree_and_reset_within_the_step() -> None:
    config = Atari("breakout")
    inline, workers = (make_vector(config, [5], workers=flag) for flag in (False, True))
    assert np.array_equal(inline.reset([5]), workers.reset([5]))
    scores = []
    for _ in range(250):
        steps = []
        for vector in (inline, workers):
            vector.step_async(np.ones(1, np.int64))
            steps.append(vector.step_wait())
        one, two = steps
        assert np.array_equal(one.obs, two.obs) and np.array_equal(one.final_obs, two.final_obs)
        assert np.array_equal(one.score, two.score, equal_nan=True) and one.terminated == two.terminated
        if one.terminated[0]:
            assert (one.obs[0] == one.obs[0, -1]).all(), "the stack begins anew"
            scores.append(float(one.score[0]))
    workers.close()
    assert np.isnan(scores[:4]).all() and scores[4] >= 0.0
    assert np.array_equal(inline.restart(0, 9), inline.reset([9])[0])


def test_render_and_memory() -> None:
    env = Atari("pong").make(0)
    env.reset(seed=0)
    assert env.render().shape == (210, 160, 3) and env.metadata["render_fps"] == 15
    labels = env.labels()
    assert list(labels)[45] == "ram_045" and len(labels) == 128
    assert list(labels.values()) == env._ale.getRAM().tolist()


def test_frames_of_full_games_carry_the_memory_as_classes(tmp_path: Path) -> None:
    config = load_component("env", "atari_breakout")
    path = collect_frames(config, tmp_path / "b.safetensors", steps=450, seed=0, say=lambda _: None)
    data = read_frames(path).data
    assert data.shape == (1, 84, 84) and data.labels["ram_057"].dtype == torch.int64
    assert data.episode is not None
    first = data.episode == 0
    lives = data.labels["ram_057"][first]
    assert len(data.episode.unique()) > 1 and set(lives.tolist()) >= {5, 4, 3, 2, 1}, "lost lives end no episode"


@pytest.mark.slow
def test_every_bundled_rom_loads() -> None:
    from ale_py import roms

    refused = []
    for game in roms.get_all_rom_ids():
        try:
            env = Atari(game).make(0)
        except RuntimeError:
            refused.append(game)
            continue
        env.reset()
        play(env, 3)
    assert refused == ["combat", "joust", "maze_craze", "warlords"]
