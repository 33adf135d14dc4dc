"""Which OpenGL the simulators render with, and what to say when there is none."""

import ctypes
import importlib
import os
import sys
from types import ModuleType

VARIABLE = "MUJOCO_GL"
INSTALL = (
    "install EGL (Debian/Ubuntu: apt-get install libegl1 libgl1-mesa-dri) "
    "or OSMesa (apt-get install libosmesa6, then set MUJOCO_GL=osmesa)"
)
OFTEN_LEFT = (
    *(VARIABLE, "PYOPENGL_PLATFORM", "MUJOCO_EGL_DEVICE_ID", "EGL_PLATFORM", "LIBGL_DRIVERS_PATH", "GALLIUM_DRIVER"),
    *("MESA_LOADER_DRIVER_OVERRIDE", "__EGL_VENDOR_LIBRARY_FILENAMES", "__EGL_VENDOR_LIBRARY_DIRS"),
)
_FOUND = {name: os.environ[name] for name in OFTEN_LEFT if name in os.environ}
"""What decides about OpenGL and was set before us: as likely to blame as a missing library."""
_FAILURES = (ImportError, AttributeError, RuntimeError, ValueError)
"""Of an import under a backend that does not work; ValueError: a device's number that is none."""

_failure: str | None = None


def load_suite() -> ModuleType:
    """Import `dm_control.suite` under the best GL backend there is; without GL, states still work.

    Raises RuntimeError when dm_control itself cannot be imported.
    """
    global _failure
    if "dm_control.suite" in sys.modules:
        return sys.modules["dm_control.suite"]
    before = os.environ.get(VARIABLE)
    backend = before or choose_backend()
    try:
        return _import_suite(backend)
    except _FAILURES as error:
        _failure = f"{VARIABLE}={backend}: {_one_line(error)}"
    try:
        return _import_suite("disable")
    except _FAILURES as error:
        raise RuntimeError(f"dm_control cannot be imported ({_one_line(error)})") from error
    finally:
        _restore(before)


def load_mujoco() -> ModuleType:
    """Import `mujoco`; where the OpenGL that the environment asks for is missing, without any."""
    try:
        return importlib.import_module("mujoco")
    except _FAILURES:
        before = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = "disable"
        try:
            return importlib.import_module("mujoco")
        finally:
            _restore(before)


def choose_backend() -> str:
    """Return `egl`, else `osmesa`, else `disable`: what this machine has a library for."""
    if sys.platform != "linux":
        return "glfw"
    for name, library in (("egl", "libEGL.so.1"), ("osmesa", "libOSMesa.so.8"), ("osmesa", "libOSMesa.so")):
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        return name
    return "disable"


def no_gl(error: Exception) -> RuntimeError:
    """Return the one line that says why nothing can be rendered, what to unset and what to install."""
    reason = _failure or _one_line(error)
    return RuntimeError(f"cannot render pixels: no working OpenGL ({reason}); {_to_unset()}{INSTALL}")


def _to_unset() -> str:
    """Name what a shell has set, with its values."""
    if not _FOUND:
        return ""
    shown = " ".join(f"{name}={value}" for name, value in _FOUND.items())
    return f"{shown} was set before: try `unset {' '.join(_FOUND)}`, or "


def _import_suite(backend: str) -> ModuleType:
    os.environ[VARIABLE] = backend
    return importlib.import_module("dm_control.suite")


def _restore(value: str | None) -> None:
    if value is None:
        os.environ.pop(VARIABLE, None)
    else:
        os.environ[VARIABLE] = value


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
