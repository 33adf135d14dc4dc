"""Where Hydra looks for group files besides ours: folders of any name, which its own option cannot say."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from rlrep.settings import ConfigError

_FOLDERS: ContextVar[tuple[Path, ...]] = ContextVar("_FOLDERS", default=())


class _Folders(SearchPathPlugin):
    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in _FOLDERS.get():
            search_path.append("--config-dir", f"file://{folder.absolute()}")


Plugins.instance().register(_Folders)


@contextmanager
def searching(folders: Sequence[Path]) -> Iterator[None]:
    """Let a composition look into `--config-dir` folders, too. Raises ConfigError for a name that Hydra cannot take."""
    for folder in folders:
        if "${" in str(folder.absolute()):  # Hydra lists its sources in the config
            raise ConfigError(f"--config-dir {folder}: Hydra takes ${{ for a reference: link to it by another name")
    token = _FOLDERS.set(tuple(folders))
    try:
        yield
    finally:
        _FOLDERS.reset(token)
