"""Arrays in .npz and .npy files, read only as large as the file says they are, and never by pickle."""

import math
import zipfile
from pathlib import Path
from typing import IO, Any

from numpy.lib import format as npy
from numpy.typing import NDArray

from rlrep.images.pixels import check_memory

Array = NDArray[Any]


def read_arrays(path: Path) -> dict[str, Array]:
    """Return the arrays of an .npz file by name, or that of an .npy file as `images`.

    Raises ValueError, in one line, if it is neither, cut short, damaged, or not numbers and texts.
    """
    try:
        with open(path, "rb") as file:
            if file.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
                file.seek(0)
                return {"images": _array(file, path.stat().st_size, "images")}
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            check_memory(sum(member.file_size for member in members), f"data.path={path}")
            return {
                (name := member.filename.removesuffix(".npy")): _member(archive, member, name) for member in members
            }
    except Exception as error:  # damage is met as BadZipFile, zlib.error, struct.error, SyntaxError, EOFError, ...
        wanted = "a sound .npz or .npy file"
        raise ValueError(f"data.path={path} is not {wanted}: {error or type(error).__name__}") from error


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> Array:
    with archive.open(member) as file:
        return _array(file, member.file_size, name)


def _array(file: IO[bytes], size: int, name: str) -> Array:
    """Read one array of a file of `size` bytes, after its header was found to say just that."""
    version = npy.read_magic(file)  # type: ignore[no-untyped-call]
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"array `{name}` is of version {version}: save plain numbers or texts")
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read_header(file)  # type: ignore[no-untyped-call]
    if dtype.hasobject:
        raise ValueError(f"array `{name}` holds Python objects: save numbers, or texts as {name}.astype(str)")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != size - file.tell():
        raise ValueError(f"array `{name}` is cut short: {size - file.tell()} bytes for {dtype} {shape}")
    file.seek(0)
    found: Array = npy.read_array(file, allow_pickle=False)  # type: ignore[no-untyped-call]
    return found
