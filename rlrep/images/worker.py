"""A process that decodes images into shards: it reads its order, once, and answers a line for each shard."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from .shards import Part, Recipe, SourceFile, write_shard


def main() -> int:
    """Carry out the order."""
    order = json.load(sys.stdin)
    recipe = Recipe(*order["recipe"])

    def check() -> None:
        if os.getppid() != order["parent"]:  # which was killed: the shard that is under way is nobody's any more
            raise SystemExit(1)

    for number, files in order["parts"]:
        part = Part(number, tuple(SourceFile(*file) for file in files), recipe)
        try:
            write_shard(Path(order["folder"]), Path(order["root"]), part, check)
        except ValueError as error:
            return _answer({"bad": str(error)})
        except OSError as error:
            return _answer({"unwritable": error.strerror or str(error)})
        _answer({"done": len(files)})
    return 0


def _answer(said: dict[str, Any]) -> int:
    print(json.dumps(said), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
