"""Files that the config and the flows name: reading TOML, and whether a file is what its setting wants.

Everything here blocks; it runs before the reactor does, or in a thread.
"""

from __future__ import annotations

import re
import ssl
import tomllib
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import soundfile

from agentstream.config.structure import Mistake
from agentstream.errors import Problem

MAXIMUM_TOML_BYTES = 4 * 1024 * 1024
MAXIMUM_SOUND_S = 1800.0


def read_toml(file: Path) -> tuple[dict[str, Any], list[Problem]]:
    """What a TOML file says; {} and one problem when it cannot be read, because then nothing else can be told."""
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAXIMUM_TOML_BYTES + 1)
    except OSError as error:
        return {}, [Problem(str(file), "", f"cannot be read: {error.strerror}")]
    if len(raw) > MAXIMUM_TOML_BYTES:
        return {}, [Problem(str(file), "", f"is longer than {MAXIMUM_TOML_BYTES} bytes, expected a TOML file")]
    try:
        # Some editors write a byte order mark first, and do not show it.
        return tomllib.loads(raw.decode("utf-8-sig")), []
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return {}, [Problem(str(file), f"line {line}", "holds bytes that are not UTF-8, expected TOML, which is UTF-8")]
    except tomllib.TOMLDecodeError as error:
        match = re.fullmatch(r"(?P<what>.*) \(at line (?P<line>\d+), column \d+\)", str(error), re.DOTALL)
        if match:
            return {}, [Problem(str(file), f"line {match['line']}", f"is not TOML: {match['what']}")]
        return {}, [Problem(str(file), "", f"is not TOML: {error}")]
    except RecursionError:
        return {}, [Problem(str(file), "", "is nested too deep, expected a TOML file")]


def sound_mistake(file: Path) -> str:
    """What keeps a file from being played, as one sentence that says what to do; "" when nothing does."""
    missing = _missing(file)
    if missing:
        return missing
    try:
        sound = soundfile.info(str(file))
    except (soundfile.SoundFileError, OSError) as error:
        reason = getattr(error, "error_string", str(error)).rstrip(".")
        return f"names {file}, which is no sound file ({reason}); give a WAV, FLAC, Ogg or MP3 file"
    if not sound.frames or not sound.samplerate:
        return f"names {file}, which holds no sound; give a WAV, FLAC, Ogg or MP3 file with some"
    if sound.frames / sound.samplerate > MAXIMUM_SOUND_S:
        return f"names {file}, which is longer than {MAXIMUM_SOUND_S / 60:.0f} minutes; give a shorter sound file"
    return ""


def certificates_mistake(file: Path) -> str:
    """What keeps a file from being a set of certificates, as one sentence; "" when nothing does."""
    missing = _missing(file)
    if missing:
        return missing
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=str(file))
    except (ssl.SSLError, OSError):
        return f"names {file}, which holds no certificate that can be read; give a PEM file"
    return ""


def _missing(file: Path) -> str:
    try:
        with file.open("rb"):
            return ""
    except OSError as error:
        return f"names {file}, which cannot be read: {error.strerror}"


def folder_mistake(folder: Path) -> str:
    """Why this is no folder, as one sentence; "" when it is one."""
    return "" if folder.is_dir() else f"names {folder}, which is no folder; make it, or name another"


_CHECKS = {"audio": sound_mistake, "certificates": certificates_mistake, "any": _missing}


def named_files(cls: Any, table: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, Path, attrs.Attribute[Any]]]:
    """``(path in the table, file, field)`` of each file or folder that a table, or a default of its class, names.

    Looks at the plain table, so that a mistake elsewhere in it hides no missing file.
    """
    for field in attrs.fields(cls):
        if "file" not in field.metadata and "folder" not in field.metadata:
            continue
        value = table.get(field.name, field.default)
        if typing.get_origin(field.type) is tuple:
            for index, item in enumerate(value if isinstance(value, list | tuple) else ()):
                if _is_path(item):
                    yield f"{field.name}[{index}]", folder / item, field
        elif _is_path(value):
            yield field.name, folder / value, field


def _is_path(value: object) -> bool:
    return isinstance(value, str | Path) and bool(str(value)) and "\0" not in str(value)


def file_mistakes(cls: Any, table: object, folder: Path) -> list[Mistake]:
    """Every file or folder that a table names and that is not what its setting wants."""
    mistakes = []
    for path, file, field in named_files(cls, table if isinstance(table, dict) else {}, folder):
        check = _CHECKS[field.metadata["file"]] if "file" in field.metadata else folder_mistake
        sentence = check(file)
        if sentence:
            mistakes.append(Mistake(path, sentence))
    return mistakes
