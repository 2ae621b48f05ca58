"""Plain values, as tomllib gives them, into attrs classes: strictly, and with every mistake reported at once.

Pure. cattrs walks the classes; the hooks are ours because cattrs by itself is generous: it makes a list of letters
of a string, True of ``"no"`` and 1 of 1.9. A range or another rule of the metadata is checked in the same walk, for
each field on its own, so that one field's mistake hides no other's.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import attrs
from cattrs import Converter
from cattrs.errors import (
    AttributeValidationNote,
    ClassValidationError,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn, override

from agentstream.config.addresses import (
    NETWORK_FORM,
    PORT_RANGE_FORM,
    Network,
    PortRange,
    parse_network,
)
from agentstream.config.hidden import without_secrets
from agentstream.errors import Problem

T = TypeVar("T")


class _Refused(Exception):
    """Raised by our hooks inside cattrs; the message is a whole sentence."""


class _WrongType(_Refused):
    """The value is of another type; its field may know more of what it wants than its type does."""


@attrs.frozen
class Mistake:
    """One mistake inside a table. ``path`` is dotted and relative to that table; "" is the table itself."""

    path: str
    sentence: str

    def problem(self, file: str, prefix: str = "") -> Problem:
        """The same mistake in a file, below a dotted path."""
        glue = "." if prefix and self.path and not self.path.startswith("[") else ""
        return Problem(file, prefix + glue + self.path, self.sentence)


# -- words ---------------------------------------------------------------------------------------------------------


def found(value: object) -> str:
    """The value as the message shows it: as TOML would, short, and without what a URL keeps to itself."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list of tables" if value and isinstance(value[0], dict) else "a list"
    if isinstance(value, str):
        shown = without_secrets(value)
        return json.dumps(shown if len(shown) <= 80 else shown[:77] + "...", ensure_ascii=False)
    return str(value)


class _Secret:
    """What messages show of a secret."""

    def __str__(self) -> str:
        return "what is not shown here"


_SECRET = _Secret()


def key(name: str) -> str:
    """One part of a dotted path; quoted where TOML would need quotes."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known one, or all of them."""
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"known are: {', '.join(names)}" if names else "none is known"


def mismatch(value: object, expected: str) -> str:
    """The sentence of a value that is not what it should be."""
    return f"found {found(value)}, expected {expected}"


def plain_type(hint: Any) -> Any:
    """``X`` for ``X | None``; anything else unchanged."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        rest = [arm for arm in typing.get_args(hint) if arm is not type(None)]
        if len(rest) == 1:
            return rest[0]
    return hint


_TYPE_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    Path: "a path in quotes",
    PortRange: PORT_RANGE_FORM,
    Network: NETWORK_FORM,
}


_MANY_WORDS: dict[Any, str] = {
    int: "whole numbers",
    float: "numbers",
    str: "strings",
    Path: "paths in quotes",
    Network: "IP addresses or networks",
}


def expected(hint: Any, words: Mapping[str, Any] | None = None) -> str:
    """What a field of this type and metadata wants, as a phrase for messages and the documentation."""
    hint, words = plain_type(hint), words or {}
    if typing.get_origin(hint) in (tuple, list):
        many = _MANY_WORDS.get(typing.get_args(hint)[0], "tables, each under double brackets")
        least = f" of {words['least']} or more" if words.get("least") else " of"
        alone = f"{_TYPE_WORDS[typing.get_args(hint)[0]]} or " if words.get("alone") else ""
        return f"{alone}a list{least} {many}" + (f", such as {words['example']}" if "example" in words else "")
    if attrs.has(hint) and hint is not PortRange:
        return "a table"
    if "choices" in words:
        return "one of " + ", ".join(f'"{choice}"' for choice in words["choices"])
    if "url" in words:
        return "a URL that begins with " + " or ".join(f"{scheme}://" for scheme in words["url"])
    phrase = _TYPE_WORDS[hint]
    if "unit" in words:
        phrase += f" of {words['unit']}"
    if "range" in words:
        phrase += " from {} to {}".format(*words["range"])
    if "multiple" in words:
        phrase += f", a multiple of {words['multiple']}"
    return phrase


def is_readable_type(hint: Any) -> bool:
    """A field of this type can be read from TOML."""
    hint = plain_type(hint)
    if typing.get_origin(hint) is tuple:
        arguments = typing.get_args(hint)
        return len(arguments) == 2 and arguments[1] is Ellipsis and is_readable_type(arguments[0])
    if isinstance(hint, type) and attrs.has(hint) and hint is not PortRange:
        return all(is_readable_type(field.type) for field in attrs.fields(hint))
    return any(hint == known for known in _TYPE_WORDS)


# -- rules of one value --------------------------------------------------------------------------------------------


def rule_broken(value: Any, words: Mapping[str, Any]) -> bool:
    """A value of the right type breaks its field's ``range``, ``multiple``, ``choices`` or ``url``."""
    if value is None:
        return False
    if "range" in words and not words["range"][0] <= value <= words["range"][1]:
        return True
    if "multiple" in words and value % words["multiple"]:
        return True
    if "choices" in words and value not in words["choices"]:
        return True
    return "url" in words and not is_url(value, words["url"])


def is_url(text: str, schemes: Iterable[str]) -> bool:
    """An absolute URL with one of these schemes and a host; no control characters, spaces or fragment."""
    if any(character.isspace() or not character.isprintable() for character in text) or "#" in text:
        return False
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in schemes and bool(parts.hostname) and port != 0


def _read_field(value: Any, hint: Any, words: Mapping[str, Any]) -> Any:
    """One field: its type, then its rules."""
    origin, arguments = typing.get_origin(plain_type(hint)), typing.get_args(plain_type(hint))
    if origin is tuple:
        return _read_list(value, arguments[0], words)
    shown = _SECRET if words.get("secret") else value
    try:
        made = _converter.structure(value, hint)
    except _WrongType:
        raise _Refused(mismatch(shown, expected(hint, words))) from None
    if rule_broken(made, words):
        raise _Refused(mismatch(shown, expected(hint, words)))
    sentence = words["check"](made) if "check" in words and made is not None else ""
    if sentence:
        raise _Refused(mismatch(shown, sentence))
    return made


def _read_list(value: Any, inner: Any, words: Mapping[str, Any]) -> tuple[Any, ...]:
    if words.get("alone") and isinstance(value, str):
        return (_read_field(value, inner, {word: words[word] for word in ("check",) if word in words}),)
    if not isinstance(value, list) or len(value) < words.get("least", 0):
        raise _Refused(mismatch(value, expected(tuple[inner, ...], words)))
    made: list[Any] = []
    errors: list[Exception] = []
    rules = {word: words[word] for word in ("range", "multiple", "choices", "url", "check") if word in words}
    for index, item in enumerate(value):
        try:
            made.append(_read_field(item, inner, rules))
        except Exception as error:
            note = IterableValidationNote(f"[{index}]", index, inner)
            error.__notes__ = [*_notes(error), note]
            errors.append(error)
    if errors:
        raise IterableValidationError("list", errors, tuple)
    return tuple(made)


# -- the converter -------------------------------------------------------------------------------------------------


def _make_converter() -> Converter:
    converter = Converter(forbid_extra_keys=True, detailed_validation=True)

    def exactly(*accepted: type) -> Callable[[Any, Any], Any]:
        def hook(value: Any, hint: Any) -> Any:
            # bool is an int to Python and is no number to anybody else.
            if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted):
                raise _WrongType(mismatch(value, expected(hint)))
            return value

        return hook

    def read_float(value: Any, hint: Any) -> float:
        number = exactly(int, float)(value, hint)
        if not math.isfinite(number):
            raise _WrongType(mismatch(value, expected(hint)))
        return float(number)

    def read_path(value: Any, hint: Any) -> Path:
        if not isinstance(value, str) or not value or "\0" in value:
            raise _WrongType(mismatch(value, expected(hint)))
        return Path(value)

    def read_ports(value: Any, hint: Any) -> PortRange:
        try:
            return PortRange.parse(exactly(str)(value, hint))
        except ValueError as error:
            raise _Refused(mismatch(value, str(error))) from None

    def read_network(value: Any, hint: Any) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        try:
            return parse_network(exactly(str)(value, hint))
        except ValueError as error:
            raise _Refused(mismatch(value, str(error))) from None

    def class_hook(cls: Any) -> Callable[[Any, Any], Any]:
        attrs.resolve_types(cls)

        def field_hook(field: attrs.Attribute[Any]) -> Callable[[Any, Any], Any]:
            return lambda value, _: _read_field(value, field.type, field.metadata)

        hooks: dict[str, Any] = {
            field.name: override(struct_hook=field_hook(field)) for field in attrs.fields(cls) if field.init
        }
        read = make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True, **hooks)

        def hook(value: Any, hint: Any) -> Any:
            if not isinstance(value, dict):
                raise _WrongType(mismatch(value, "a table"))
            return read(value, hint)

        return hook

    converter.register_structure_hook_factory(lambda hint: isinstance(hint, type) and attrs.has(hint), class_hook)
    converter.register_structure_hook(bool, exactly(bool))
    converter.register_structure_hook(int, exactly(int))
    converter.register_structure_hook(float, read_float)
    converter.register_structure_hook(str, exactly(str))
    converter.register_structure_hook(Path, read_path)
    converter.register_structure_hook(PortRange, read_ports)
    converter.register_structure_hook_func(lambda hint: hint == Network, read_network)
    return converter


_converter = _make_converter()


def _notes(error: BaseException) -> list[Any]:
    return getattr(error, "__notes__", [])


def _mistakes(
    error: BaseException,
    path: str,
    hint: Any,
    also_known: Iterable[str] = (),
    words: Mapping[str, Any] | None = None,
) -> Iterable[Mistake]:
    """Every leaf of cattrs' exception groups, with the dotted path that its notes tell."""
    if isinstance(error, ClassValidationError | IterableValidationError):
        for inner in error.exceptions:
            where, inner_hint, inner_words = path, hint, words
            for note in _notes(inner):
                if isinstance(note, AttributeValidationNote):
                    where = f"{path}.{note.name}" if path else note.name
                    field = getattr(attrs.fields(error.cl), note.name)
                    inner_hint, inner_words = field.type, field.metadata
                elif isinstance(note, IterableValidationNote):
                    where, inner_hint = f"{path}[{note.index}]", note.type
            yield from _mistakes(inner, where, inner_hint, also_known if where == path else (), inner_words)
    elif isinstance(error, ForbiddenExtraKeysError):
        known = [field.name for field in attrs.fields(error.cl)] + list(also_known)
        for name in sorted(error.extra_fields, key=str):
            yield Mistake(f"{path}.{key(name)}" if path else key(name), f"is not known here; {nearest(name, known)}")
    elif isinstance(error, _Refused):
        yield Mistake(path, str(error))
    elif isinstance(error, KeyError) and any(isinstance(note, AttributeValidationNote) for note in _notes(error)):
        yield Mistake(path, f"is missing, expected {expected(hint, words)}")
    else:
        yield Mistake(path, f"is refused: {_said(error, hint, words or {})}")


def _said(error: BaseException, hint: Any, words: Mapping[str, Any]) -> str:
    """What a validator or converter of a drop-in's own options class said; those of attrs quote the value."""
    hint = plain_type(hint)
    fields = attrs.fields(hint) if isinstance(hint, type) and attrs.has(hint) else ()
    if words.get("secret") or any(field.metadata.get("secret") for field in fields):
        return "why is not shown, because it may quote a secret"
    # Behind their sentence attrs' own have the field and the value as further arguments.
    return error.args[0] if len(error.args) > 1 and isinstance(error.args[0], str) else str(error)


def read(hint: type[T], value: Any, also_known: Iterable[str] = ()) -> tuple[T | None, list[Mistake]]:
    """``value`` as an instance of an attrs class, or None and every mistake.

    ``also_known`` are names that the reader of the table takes for itself, for the sake of the nearest name.
    """
    try:
        return _converter.structure(value, hint), []
    except (_Refused, ClassValidationError, IterableValidationError) as error:
        return None, list(_mistakes(error, "", hint, tuple(also_known)))


def read_section(name: str, hint: Any, value: Any) -> tuple[Any, list[Mistake]]:
    """One section of a document likewise, be it a table or a list of tables; its mistakes begin with its name."""
    try:
        return _read_field(value, hint, {}), []
    except (_Refused, ClassValidationError, IterableValidationError) as error:
        return None, list(_mistakes(error, name, hint))


def anchored(value: T, folder: Path) -> T:
    """The same attrs instance with each relative path of it starting at ``folder``."""
    instance: Any = value
    changes: dict[str, Any] = {}
    for field in attrs.fields(type(instance)):
        now = getattr(instance, field.name)
        if field.init and isinstance(now, Path):
            changes[field.alias] = folder / now
        elif field.init and isinstance(now, tuple) and now and isinstance(now[0], Path):
            changes[field.alias] = tuple(folder / path for path in now)
    return typing.cast(T, attrs.evolve(instance, **changes))
