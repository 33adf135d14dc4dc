"""`python -m rlrep.hub`: put a run on the Hugging Face Hub, take one from there. What is pulled is data, not code."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlrep.process.cli import Arguments, read_arguments, run_main
from rlrep.settings import ConfigError, UserError, build, one_line

if TYPE_CHECKING:
    from rlrep.record.trust import Trust

_HELP = """\
Put a run on the Hugging Face Hub, or take one from there.

  python -m rlrep.hub push RUN --repo OWNER/NAME [--private] [--config-dir DIR] [--trust MODULE]
  python -m rlrep.hub pull OWNER/NAME[@REVISION] --out DIR

  python -m rlrep.evaluate out=DIR                                      score a pulled agent
  python -m rlrep.train env=... encoder.load=hub:OWNER/NAME             its encoder in another agent

push writes, in one commit, the agent's newest checkpoint without its replay, its encoder (or that of a pretraining
run), config, evaluations, newest film, and a README.md made of them. It needs a token that may write: `hf auth login`,
or HF_TOKEN. pull takes files of these names alone. Nothing that is pulled is executed: rlrep.evaluate makes rlrep's own
components, and others only by --config-dir or --trust. HF_ENDPOINT names another Hub. Needs pip install 'rlrep[hub]'.
"""
_MOST_FILES = 20
_FLAGS = ("--repo", "--out")
_RECORDS = ("scoring.json", "tasks.json", "eval.csv")


@dataclass(frozen=True)
class Push:
    """repo: where to. private: who sees it, if the repository is new."""

    repo: str
    private: bool = False


@dataclass(frozen=True)
class Pull:
    """out: a folder that is not there yet."""

    out: str


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    return run_main(lambda: _run(read_arguments(_as_words(argv), ("--trust", *_FLAGS, "--private"))))


def _as_words(argv: Sequence[str]) -> list[str]:
    """Return the command line with `--repo NAME` written as `repo=NAME`, as the words of other commands are."""
    words, rest = [], list(argv)
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=")
        if flag in _FLAGS:
            value = value if equals else rest.pop(0) if rest else ""
            words.append(f"{flag.removeprefix('--')}={value}")
        else:
            words.append("private=true" if word == "--private" else word)
    return words


def _run(arguments: Arguments) -> int:
    if arguments.help:
        print(_HELP, end="")
        return 0
    from rlrep.config.overrides import as_path
    from rlrep.record.trust import Trust

    what, asked = read_asked(arguments.words)
    if isinstance(asked, Push):
        print(push(Path(as_path(what)), asked, Trust(tuple(arguments.folders), tuple(arguments.modules))))
    else:
        print(pull(what, Path(asked.out)))
    return 0


def read_asked(given: Sequence[str]) -> tuple[str, Push | Pull]:
    """Read the words of a command: what is to go or to come, and how. Raises ConfigError in one line."""
    from rlrep.config.overrides import Grammar, parse

    named = [word for word in given if "=" not in word or os.path.isdir(word)]
    if len(named) != 2 or named[0] not in ("push", "pull"):
        raise ConfigError("say push RUN --repo OWNER/NAME, or pull OWNER/NAME --out DIR")
    words = [word for word in given if word not in named]
    settings = {each.path: each.value for each in parse(words, Grammar((), texts=("repo",))).settings}
    kind: type[Push] | type[Pull] = Push if named[0] == "push" else Pull
    needed = "repo" if kind is Push else "out"
    if not settings.get(needed):
        raise ConfigError(f"{named[0]} needs --{needed}: see --help")
    asked: Push | Pull = build(kind, settings, "")
    return named[1], asked


def push(folder: Path, asked: Push, trust: "Trust") -> str:
    """Put a run folder into a repository and return a line that says so. Raises UserError, HubError."""
    from rlrep.record.folder import check_plain
    from rlrep.repository import Repository, connect, most_bytes

    from .card import write_card

    repository = Repository.named(asked.repo)
    connect()  # a missing package is said before the work
    check_plain(folder)
    with _beside(Path(tempfile.gettempdir())) as staged:
        _stage(folder, trust, staged)
        repository = repository.make(private=asked.private)
        write_card(folder, staged, repository.name)
        files = {str(path.relative_to(staged)): path for path in sorted(staged.rglob("*")) if path.is_file()}
        for name, path in files.items():
            most = most_bytes(name)
            if most is None or path.stat().st_size > most:
                raise UserError(f"{folder}: {name} is larger than rlrep.hub pull takes: it is not pushed")
        return f"{len(files)} files: {repository.fill(files, f'rlrep: {folder.name}')}"


def _stage(folder: Path, trust: "Trust", staged: Path) -> None:
    """Put what is to be pushed of a run into a folder of its own."""
    from rlrep.record.folder import write_config

    tree = trust.read(folder)
    if isinstance(tree.get("agent"), dict):
        _stage_agent(folder, trust, staged)
    elif (folder / "encoder.safetensors").is_file():
        for name in ("encoder.safetensors", "encoder.json"):
            shutil.copyfile(folder / name, staged / name)
    else:
        raise UserError(f"{folder} holds neither an agent nor an encoder yet: let its run finish")
    for name in _RECORDS:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, staged / name)
    _stage_versions(folder, staged)
    write_config(staged, {**tree, "out": folder.name, **({"root": "runs"} if "root" in tree else {})})


def _stage_agent(folder: Path, trust: "Trust", staged: Path) -> None:
    """Write the newest checkpoint without replay and environments, once it is known to fit, its encoder and a film."""
    from rlrep.record.checkpoint import Checkpoints

    from .evaluate import newest
    from .python import Run

    _stage_encoder(folder, trust, staged)
    steps, state = newest(folder)
    manifest = Checkpoints(folder / "checkpoints").latest()
    kept = {"agent": state["agent"], "counters": state["counters"]}
    Checkpoints(staged / "checkpoints").save(kept, {}, step=steps, finished=manifest is not None and manifest.finished)
    film = Run(folder).video()
    if film is not None:
        (staged / "videos").mkdir()
        shutil.copyfile(film, staged / "videos" / f"agent{film.suffix}")


def _stage_encoder(folder: Path, trust: "Trust", staged: Path) -> None:
    """Build the agent of the newest checkpoint, which thereby is known to fit, and save its encoder, if it has one."""
    from rlrep.config.config import make_config
    from rlrep.nn import Encoder, save_encoder

    from .card import command_of
    from .trained import agent_of, view_shape

    encoder = getattr(getattr(agent_of(folder, trust), "nets", None), "encoder", None)
    if isinstance(encoder, Encoder) and encoder.state_dict():
        config = make_config(trust.read(folder))
        save_encoder(staged, encoder, config.encoder, view_shape(config), command=command_of(folder))


def _stage_versions(folder: Path, staged: Path) -> None:
    """Write what the run was made with, sessions that went on with it left out, if that can be read."""
    from rlrep.record.stored import Unreadable, read_json

    from .card import command_of

    try:
        versions = {**read_json(folder / "versions.json"), "command": command_of(folder)}
    except Unreadable:
        return
    versions.pop("resumed", None)
    (staged / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


def pull(name: str, out: Path) -> str:
    """Take a repository's run into a new folder and return a line that says what came. Raises UserError, HubError.

    What comes is held against its own hashes before the folder appears; what it asks to be built is asked when it is.
    """
    from rlrep.repository import Repository, most_bytes

    if out.is_file() or (out.is_dir() and any(out.iterdir())) or out.is_symlink():
        raise ConfigError(f"out={out} is there already: name a new folder")
    repository, names = Repository.named(name).look()
    wanted = [path for path in names if most_bytes(path) is not None]
    others = sorted(set(names) - set(wanted) - {".gitattributes"})
    if "config.yaml" not in wanted:
        raise UserError(f"{repository.name} holds no run of rlrep: it has no config.yaml")
    if len(wanted) > _MOST_FILES:
        raise UserError(f"{repository.name} holds {len(wanted)} files of rlrep's, and a pushed run has some ten")
    out.parent.mkdir(parents=True, exist_ok=True)
    with _beside(out.parent) as staged:
        for path in wanted:
            repository.save(path, staged)
        _check(staged, repository.name)
        staged.chmod(0o755)
        staged.rename(out)
    line = f"{out}: {len(wanted)} files at {repository.revision[:12]}"
    shown = ", ".join(ascii(path)[1:-1][:60] for path in others[:5])
    return f"{line}; left there, as no files of rlrep's: {shown}" if others else line


def _check(folder: Path, name: str) -> None:
    """Raise UserError if what was pulled is no run folder, or not what was written there."""
    from rlrep.nn import read_encoder
    from rlrep.record.folder import read_config

    from .evaluate import newest

    try:
        read_config(folder)
        if (folder / "checkpoints").exists():
            newest(folder)
        if (folder / "encoder.json").exists() or (folder / "encoder.safetensors").exists():
            read_encoder(folder)
    except (UserError, ValueError) as error:
        line = one_line(error).replace(f"{folder}/", "").replace(str(folder), name)
        raise UserError(f"{name} is damaged: {line}") from error


@contextmanager
def _beside(place: Path) -> Iterator[Path]:
    """Give a folder that is removed in the end, unless it has been moved away."""
    folder = Path(tempfile.mkdtemp(prefix=".rlrep-hub-", dir=place))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
