"""Settings become flags: every command's dataclass is parsed here, with one true default a flag in ``--help``."""

import dataclasses
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Annotated, Any, TypeVar, get_type_hints

import docstring_parser
import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

from jtf.errors import UserError

Config = TypeVar("Config")

CHOSEN_LATER = (None, "", "auto")
"""Defaults that stand for a choice made later; what is chosen is the docstring's last sentence, ``Default: …``."""


def parse_flags(
    cls: type[Config],
    args: Sequence[str] | None,
    prog: str,
    default: Config | None = None,
    description: str | None = None,
) -> Config:
    """Return the `cls` that the command line `args` (None: this process's) describes; exit with 2 where it cannot.

    A boolean flag takes ``true`` or ``false`` in any case, or stands alone: ``--x``, ``--no-x``.
    """
    tokens = sys.argv[1:] if args is None else args
    if "--version" in tokens:
        print(f"jtf {version('jtf')}")
        raise SystemExit(0)
    registry = ConstructorRegistry()
    registry.struct_rule(_described_struct)
    return tyro.cli(
        cls,
        args=_without_boolean_values(tokens, set(_boolean_flags(cls))),
        prog=prog,
        description=description,
        default=tyro.MISSING_NONPROP if default is None else default,
        config=(tyro.conf.DisallowNone,),
        registry=registry,
    )


def as_flags(sentence: str, settings: type, prefix: str) -> str:
    """Return a library's sentence with its settings as flags.

    ``name=value`` and ``name`` in backquotes become ``--prefix.name value`` and ``--prefix.name``, for every field of
    the dataclass `settings` and of the dataclasses in it.
    """
    for name, kind in get_type_hints(settings).items():
        if dataclasses.is_dataclass(kind):
            sentence = as_flags(sentence, kind, f"{prefix}{name}.")  # type: ignore[arg-type]
        flag = f"--{prefix}{name}".replace("_", "-")
        sentence = re.sub(rf"(?<![\w.-]){name}=", f"{flag} ", sentence).replace(f"`{name}`", flag)
    return sentence


@contextmanager
def errors_name_flags(settings: type, prefix: str, *kinds: type[Exception]) -> Iterator[None]:
    """Raise an error of these kinds again as a `UserError` that names flags instead of settings."""
    try:
        yield
    except kinds as error:
        raise UserError(as_flags(str(error), settings, prefix)) from error


def _boolean_flags(cls: type, prefix: str = "--") -> Iterator[str]:
    for name, kind in get_type_hints(cls).items():
        if dataclasses.is_dataclass(kind):
            yield from _boolean_flags(kind, f"{prefix}{name}.")  # type: ignore[arg-type]
        elif kind in (bool, bool | None):
            yield f"{prefix}{name}".replace("_", "-")


def _without_boolean_values(tokens: Sequence[str], flags: set[str]) -> list[str]:
    """Return `tokens` with ``--x true``, ``--x=TRUE`` as ``--x`` and ``--x false`` as ``--no-x`` for boolean flags."""
    spelled: list[str] = []
    for token in tokens:
        flag, equals, value = token.partition("=")
        if not equals and spelled:
            flag, value = spelled[-1], token
        flag = flag.replace("_", "-")
        if flag not in flags or value.lower() not in ("true", "false"):
            spelled.append(token)
            continue
        if not equals:
            spelled.pop()
        group, _, name = flag.removeprefix("--").rpartition(".")
        spelled.append(flag if value.lower() == "true" else f"--{group}{'.' if group else ''}no-{name}")
    return spelled


def _described_struct(info: StructTypeInfo) -> StructConstructorSpec | None:
    """Tyro's rule for dataclasses, with help texts whose default is the true one."""
    if not dataclasses.is_dataclass(info.type):
        return None
    kinds = get_type_hints(info.type, include_extras=True)
    texts = _field_texts(info.type)
    fields = [
        _described_field(field, kinds[field.name], texts.get(field.name, ""), info.default)
        for field in dataclasses.fields(info.type)
    ]
    return StructConstructorSpec(instantiate=info.type, fields=tuple(fields))


def _described_field(field: dataclasses.Field, kind: Any, text: str, struct: object) -> StructFieldSpec:
    default = _default(field, struct)
    if dataclasses.is_dataclass(kind):
        return StructFieldSpec(field.name, kind, default)  # type: ignore[arg-type]
    text, _, chosen = text.partition(" Default: ")
    hint = tyro.conf.arg(help_behavior_hint=lambda label: _hint(default, label, chosen.removesuffix(".")))
    return StructFieldSpec(field.name, Annotated[kind, hint], default, text)  # type: ignore[arg-type]


def _default(field: dataclasses.Field, struct: Any) -> Any:
    if dataclasses.is_dataclass(struct):
        return getattr(struct, field.name)
    if field.default is not dataclasses.MISSING:
        return field.default
    return tyro.MISSING_NONPROP if field.default_factory is dataclasses.MISSING else field.default_factory()


def _hint(default: Any, label: str, chosen: str) -> str:
    """Return what ``--help`` says of a default: the value itself, or how it is chosen."""
    if isinstance(default, bool):
        return f"(default: {'yes' if default else 'no'})"
    if default not in CHOSEN_LATER:
        return f"(default: {label})"
    chosen = "; ".join(part for part in (default, chosen) if part)
    return f"(default: {chosen})" if chosen else ""


def _field_texts(cls: type) -> dict[str, str]:
    """Return the docstring of every field, those of base classes included, each on one line."""
    texts: dict[str, str] = {}
    for base in reversed([base for base in cls.__mro__ if dataclasses.is_dataclass(base)]):
        params = docstring_parser.parse_from_object(base).params
        texts |= {param.arg_name: " ".join((param.description or "").split()) for param in params}
    return texts
