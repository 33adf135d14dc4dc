"""What is set once per process: threads, allocator, device."""

import ctypes
import os
import sys

import torch

from rlrep.settings import UserError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER_BYTES = 2**31 - 1


def cores() -> int:
    """Return the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads() -> int:
    """Give torch every core, unless OMP_NUM_THREADS says otherwise; other pools get one thread. Returns torch's count.

    Two OpenMP pools on the same cores slow everything down many times, hence one place that decides.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # more numbers are for nested threads
    if asked and not (asked.isdecimal() and int(asked)):
        raise UserError(f"OMP_NUM_THREADS={asked} is no number of threads: unset it, or say how many")
    count = int(asked or cores())
    for pool in ("OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        os.environ.setdefault(pool, "1")
    torch.set_num_threads(count)
    return count


def keep_large_blocks() -> bool:
    """Tell glibc to keep freed large blocks instead of returning them to the system (Linux only).

    An update allocates and frees the same tens of megabytes; mapping them anew each time costs page faults.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER_BYTES))


def free_bytes(device: torch.device) -> int:
    """Return the memory that is free on a device, with what this process holds of it and does not use."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    with open("/proc/meminfo") as file:
        found = dict(line.split(":") for line in file)
    return int(found["MemAvailable"].split()[0]) * 1024


def pick_device(name: str) -> torch.device:
    """Return the device of `auto`, `cpu` or `cuda`. Raises UserError if a GPU is asked for and absent."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        built = "none is visible" if torch.version.cuda else "this torch was built without CUDA"
        raise UserError(
            f"device=cuda: no GPU can be used here ({built}): use device=cpu, or install a CUDA build of torch"
        )
    return torch.device("cuda" if name == "cuda" or (name == "auto" and available) else "cpu")
