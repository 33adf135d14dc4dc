"""Repositories of the Hugging Face Hub (extra `hub`): what is taken from one, with distrust, and how one is filled.

Whoever owns a repository may put anything there, and whoever answers may send anything: only files of the names that
rlrep gives are asked for, and each has a bound that holds while it comes. Nothing that comes is imported or run.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .files import open_plain

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PREFIX = "hub:"
MEGABYTE = 2**20
_CHECKPOINT = r"checkpoints/[0-9]{6,12}_step_[0-9]{1,15}"
_ALLOWED = (
    (r"README\.md|config\.yaml|(versions|scoring|tasks|encoder)\.json", MEGABYTE),
    (rf"eval\.csv|{_CHECKPOINT}/(manifest|state)\.json", 64 * MEGABYTE),
    (r"videos/agent\.(mp4|gif)", 256 * MEGABYTE),
    (rf"encoder\.safetensors|{_CHECKPOINT}/tensors\.safetensors", 2**33),
)
_NAME = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/)?[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9][\w./-]{0,199}", re.ASCII)
_SECONDS = 30.0


class HubError(OSError):
    """Why a repository cannot be used, in one line that says what to do."""


def most_bytes(path: str) -> int | None:
    """Return how large a file of this name may be, None for a name that rlrep gives no file."""
    return next((most for names, most in _ALLOWED if re.fullmatch(names, path)), None)


@dataclass(frozen=True)
class Repository:
    """A repository of models at a revision: a branch, a tag or, once it is looked at, a commit."""

    name: str
    revision: str = "main"

    @classmethod
    def named(cls, text: str) -> "Repository":
        """Return what `OWNER/NAME` or `OWNER/NAME@REVISION` means. Raises HubError if it names none."""
        name, at, revision = text.removeprefix(PREFIX).partition("@")
        if not _NAME.fullmatch(name) or ".." in text or (at and not _REVISION.fullmatch(revision)):
            raise HubError(f"{ascii(text)[1:-1][:200]} names no repository: write OWNER/NAME or OWNER/NAME@REVISION")
        return cls(name, revision) if at else cls(name)

    def look(self) -> tuple["Repository", list[str]]:
        """Return the repository at the commit that it is at now, and the names of its files. Raises HubError."""
        api = connect()
        with _asking(api, self.name):
            found = api.model_info(self.name, revision=self.revision, timeout=_SECONDS)
            names = list(dict.fromkeys(str(file.rfilename) for file in found.siblings or ()))
            return Repository(self.name, str(found.sha or self.revision)), names

    def read(self, path: str) -> bytes:
        """Return a file. Raises HubError, also if it is larger than one of its name can be."""
        return b"".join(self._chunks(path))

    def save(self, path: str, folder: Path) -> None:
        """Write a file into its place below a folder, where it is not yet. Raises HubError, OSError."""
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        with open(open_plain(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
            for chunk in self._chunks(path):
                file.write(chunk)

    def _chunks(self, path: str) -> Iterator[bytes]:
        most = most_bytes(path)
        if most is None:
            raise HubError(f"{self.name}: {ascii(path)[:200]} is no file of rlrep's")
        from huggingface_hub import get_session, hf_hub_url
        from huggingface_hub.utils import (  # type: ignore[attr-defined]  # where its documentation has them
            build_hf_headers,
            hf_raise_for_status,
        )

        api = connect()
        url = hf_hub_url(self.name, path, revision=self.revision, endpoint=api.endpoint)
        with (
            _asking(api, self.name),
            get_session().stream("GET", url, headers=build_hf_headers(), timeout=_SECONDS) as answer,
        ):
            hf_raise_for_status(answer)
            for chunk in answer.iter_bytes(MEGABYTE):
                most -= len(chunk)
                if most < 0:
                    raise HubError(f"{self.name}: {path} is larger than such a file can be: it is not taken")
                yield chunk

    def make(self, *, private: bool) -> "Repository":
        """Make the repository, if it is not there; return it with its owner. Raises HubError."""
        from huggingface_hub import get_token

        api = connect()
        if get_token() is None:
            raise HubError("no token of the Hub is set: log in by `hf auth login`, or set HF_TOKEN")
        with _asking(api, self.name):
            return Repository(api.create_repo(self.name, private=private, exist_ok=True).repo_id, self.revision)

    def fill(self, files: Mapping[str, Path], message: str) -> str:
        """Commit files by name, all at once, and return the repository's address. Raises HubError.

        Files of names that rlrep gives and that are not among them are deleted, others stay.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        _, there = self.look()
        gone = [path for path in there if most_bytes(path) is not None and path not in files]
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *(CommitOperationDelete(path) for path in gone),
            *(CommitOperationAdd(path, place) for path, place in files.items()),
        ]
        api = connect()
        with _asking(api, self.name):
            api.create_commit(self.name, operations, commit_message=message, revision=self.revision)
        return f"{api.endpoint}/{self.name}"


def connect() -> "HfApi":
    """Return a client of the Hub at `HF_ENDPOINT`. Raises HubError if huggingface_hub is not installed."""
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise HubError("the Hub needs huggingface_hub: pip install 'rlrep[hub]'") from error
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)


@contextmanager
def _asking(api: "HfApi", name: str) -> Iterator[None]:
    """Ask the Hub about a repository. Raises HubError for whatever comes of that."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except HubError:
        raise
    except HfHubHTTPError as error:
        raise HubError(f"{name}: {_meaning(error.response.status_code, api.endpoint)}") from error
    except Exception as error:  # the network's, the file system's, or what a server that is no Hub answers
        reason = " ".join(str(error).split())[:150]
        raise HubError(
            f"{name}: {api.endpoint} gives no answer that can be used ({type(error).__name__}: {reason}): "
            "see to the network, or to HF_ENDPOINT"
        ) from error


def _meaning(status: int, endpoint: str) -> str:
    """Say what an answer means; the Hub answers 401 also where it hides that there is such a repository."""
    if status in (401, 404):
        return (
            f"{endpoint} shows no such repository or file ({status}): see to its name, or to HF_TOKEN if it is private"
        )
    if status == 403:
        return f"{endpoint} refuses ({status}): HF_TOKEN does not allow that; a token with the right to write is needed"
    return f"{endpoint} answers {status}: try again later"
