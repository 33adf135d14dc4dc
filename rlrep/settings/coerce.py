"""The typed border: plain values from YAML and the command line become frozen dataclasses, or one clear line."""

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from importlib import import_module
from typing import Any, Literal, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import ConfigError, hint, one_line

TARGET = "_target_"
T = TypeVar("T")
_COMPLETED: dict[tuple[type[Any], type[Any]], type[Any]] = {}
_SCALARS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
_ON, _OFF = ("true", "on", "yes"), ("false", "off", "no")
_SWITCH = dict.fromkeys(_ON, _ON) | dict.fromkeys(_OFF, _OFF)


def coerce(value: object, kind: Any, path: str) -> Any:
    """Return `value` as `kind` (a type annotation). Raises ConfigError naming `path` and what was expected."""
    origin = get_origin(kind)
    if kind is Any or kind is object:
        return _component(value, kind, path) if isinstance(value, Mapping) and TARGET in value else value
    if kind is type(None):
        return _expect_none(value, path)
    if origin is Literal:
        return _literal(value, get_args(kind), path)
    if origin in (Union, types.UnionType):
        return _union(value, get_args(kind), path)
    if origin is tuple:
        return _tuple(value, get_args(kind), path)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {str(k): coerce(v, get_args(kind)[1], f"{path}.{k}") for k, v in _mapping(value, path).items()}
    if kind in _SCALARS:
        return _scalar(value, kind, path)
    return _component(value, kind, path)


def build(cls: type[Any], node: Mapping[str, object], path: str) -> Any:
    """Build dataclass `cls` from `node`. Raises ConfigError on unknown, missing or wrongly typed fields."""
    known = {f.name: f for f in fields(cls) if f.init}
    hints = get_type_hints(cls)
    for key in node:
        if key not in known:
            raise ConfigError(f"unknown option {_join(path, key)}{hint(key, known)}")
    absent = [name for name, f in known.items() if name not in node and not _has_default(f)]
    if absent:
        raise ConfigError(f"{path or 'config'} needs {', '.join(absent)} ({cls.__name__})")
    values = {key: coerce(value, hints[key], _join(path, key)) for key, value in node.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise ConfigError(f"{path or 'config'}: {one_line(error)}") from error


def find_target(target: str, path: str, base: Any = object) -> type[Any]:
    """Import the config dataclass named by a `_target_`, completed by `base`: see `complete`.

    Raises ConfigError if it is none, or cannot be imported.
    """
    cls = find_object(target, path)
    if not (isinstance(cls, type) and is_dataclass(cls)):
        raise ConfigError(f"{path}: {target} is not a config dataclass")
    return complete(cls, base) if _fills_in(base) else cls


def find_object(target: str, path: str) -> Any:
    """Import what a dotted name names. Raises ConfigError if it cannot be imported."""
    module, _, name = target.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{path}: cannot load {target} ({one_line(error)})") from error
    except Exception as error:  # whatever a module of the user's own raises
        raise ConfigError(f"{path}: cannot load {target} ({type(error).__name__}: {one_line(error)})") from error


def complete(cls: type[Any], base: type[Any]) -> type[Any]:
    """Return a config dataclass as a subclass of `base`: itself, or one of the same name that has from `base` what it
    lacks, so that whoever writes a component need not inherit from anything of ours.

    In another process its instances are of `cls` again.
    """
    if issubclass(cls, base) or issubclass(base, cls):
        return cls
    if (cls, base) not in _COMPLETED:
        _COMPLETED[cls, base] = _subclass(cls, base)
    return _COMPLETED[cls, base]


def _subclass(cls: type[Any], base: type[Any]) -> type[Any]:
    def reduced(self: Any, protocol: int) -> tuple[Any, ...]:
        return (object.__new__, (cls,), *object.__reduce_ex__(self, protocol)[2:])

    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return types.new_class(cls.__name__, (cls, base), {}, lambda space: space.update(names, __reduce_ex__=reduced))


def completed(value: Any, base: type[T]) -> T:
    """Return a config as an instance of `base`; see `complete`."""
    if isinstance(value, base):
        return value
    made: T = complete(type(value), base)(**{f.name: getattr(value, f.name) for f in fields(value) if f.init})
    return made


def _fills_in(base: Any) -> bool:
    """Whether an annotation is a class of ours, whose attributes and methods are what a component may do without."""
    return isinstance(base, type) and base is not Any and Protocol not in base.__bases__


def with_defaults(node: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return a `_target_` node with the dataclass's own defaults filled in, so that every option has a name."""
    cls = find_target(str(node[TARGET]), path)
    filled = {f.name: plain(_default(f)) for f in fields(cls) if f.init and _has_default(f)}
    return {TARGET: node[TARGET], **filled, **node}


def with_all_defaults(node: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return a node with the defaults of its dataclasses filled in at every depth."""
    filled = with_defaults(node, path) if TARGET in node else dict(node)
    return {k: with_all_defaults(v, f"{path}.{k}") if isinstance(v, Mapping) else v for k, v in filled.items()}


def accepts(cls: type[Any], name: str, kind: type[Any]) -> bool:
    """Whether dataclass field `cls.name` may hold a `kind`."""
    annotation = get_type_hints(cls).get(name)
    return kind is annotation or kind in get_args(annotation)


def expand_names(
    node: Mapping[str, Any], path: str, kind: type[Any], named: Callable[[str, str], Any]
) -> dict[str, Any]:
    """Return a `_target_` node with `named(text, path)` for every text (also in a list) where a `kind` may be."""
    cls = find_target(str(node[TARGET]), path)

    def expand(value: Any, place: str) -> Any:
        if isinstance(value, list):
            return [expand(each, f"{place}[{i}]") for i, each in enumerate(value)]
        return named(value, place) if isinstance(value, str) else value

    return {
        key: expand(value, f"{path}.{key}") if key != TARGET and accepts(cls, key, kind) else value
        for key, value in node.items()
    }


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _has_default(field: "Field[Any]") -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _default(field: "Field[Any]") -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def plain(value: Any) -> Any:
    """Return a dataclass, and what it is made of, as the nodes and lists that `coerce` makes it from."""
    if is_dataclass(value) and not isinstance(value, type):
        target = f"{type(value).__module__}.{type(value).__qualname__}"
        return {TARGET: target, **{f.name: plain(getattr(value, f.name)) for f in fields(value) if f.init}}
    if isinstance(value, (tuple, list)):
        return [plain(v) for v in value]
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    return value


def _wrong(path: str, value: object, expected: str) -> ConfigError:
    return ConfigError(f"{path}={_show(value)}: expected {expected}")


def _show(value: object) -> str:
    return (
        {True: "true", False: "false", None: "null"}[value] if value is None or isinstance(value, bool) else str(value)
    )


def _expect_none(value: object, path: str) -> None:
    if value is not None:
        raise _wrong(path, value, "null")


def _mapping(value: object, path: str) -> Mapping[Any, object]:
    if not isinstance(value, Mapping):
        raise _wrong(path, value, "a group of options")
    return value


def _scalar(value: object, kind: Any, path: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():  # 1e5
        return int(value)
    if kind is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if kind is bool and isinstance(value, str) and value.lower() in _SWITCH:
        return value.lower() in _ON
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool) or value != value:  # NaN
        raise _wrong(path, value, _SCALARS[kind])
    return value


def _literal(value: object, options: tuple[Any, ...], path: str) -> Any:
    for option in options:
        if value == option and type(value) is type(option):
            return option
    for name in _SWITCH.get(_show(value).lower(), ()):  # YAML reads a bare off as false, and people mix them too
        if name in options:
            return name
    raise ConfigError(f"{path}={_show(value)} is not a choice{hint(_show(value), map(_show, options))}")


def _union(value: object, kinds: tuple[Any, ...], path: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    failures = []
    for kind in kinds:
        if kind is not type(None):
            try:
                return coerce(value, kind, path)
            except ConfigError as error:
                failures.append(error)
    scalars = [_SCALARS[kind] for kind in kinds if kind in _SCALARS]
    names = [_show(option) for kind in kinds if get_origin(kind) is Literal for option in get_args(kind)]
    raise _wrong(path, value, " or ".join([*scalars, *names])) if scalars and names else failures[-1]


def _tuple(value: object, kinds: tuple[Any, ...], path: str) -> tuple[Any, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise _wrong(path, value, "a list, as in [1,2]")
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise _wrong(path, value, f"a list of {len(kinds)}")
    return tuple(coerce(v, k, f"{path}[{i}]") for i, (v, k) in enumerate(zip(value, kinds, strict=True)))


def _component(value: object, kind: Any, path: str) -> Any:
    node = dict(_mapping(value, path))
    target = node.pop(TARGET, None)
    cls = kind if target is None else find_target(str(target), path, kind)
    if not (isinstance(cls, type) and is_dataclass(cls)):
        raise ConfigError(f"{path}: expected a node with {TARGET}")
    return build(cls, node, path)
