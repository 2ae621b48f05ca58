"""Passwords that a config names and does not hold: ``file:PATH`` and ``env:NAME``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs

from agentstream.config.model import Config
from agentstream.errors import Problem

Section = TypeVar("Section")


def with_secrets(config: Config, file: Path, environment: Mapping[str, str]) -> tuple[Config, list[Problem]]:
    """The config with every secret in its place, and what could not be found."""
    problems: list[Problem] = []
    changes: dict[str, Any] = {}
    for field in attrs.fields(Config):
        tables = getattr(config, field.name)
        if isinstance(tables, tuple) and tables and attrs.has(type(tables[0])):
            made = []
            for index, table in enumerate(tables):
                whole, wrong = _filled(table, file.parent, environment)
                made.append(whole)
                problems += [Problem(str(file), f"{field.name}[{index}].{name}", text) for name, text in wrong]
            changes[field.name] = tuple(made)
    return attrs.evolve(config, **changes), problems


def _filled(table: Section, folder: Path, environment: Mapping[str, str]) -> tuple[Section, list[tuple[str, str]]]:
    """One table, and (setting, sentence) of what is missing."""
    instance: Any = table
    changes: dict[str, str] = {}
    wrong: list[tuple[str, str]] = []
    for field in attrs.fields(type(instance)):
        if not field.metadata.get("secret"):
            continue
        kind, colon, place = getattr(instance, field.name).partition(":")
        if not colon or kind not in ("file", "env"):
            continue
        try:
            secret = _first_line(folder / place) if kind == "file" else environment.get(place, "")
        except (OSError, ValueError) as error:
            wrong.append((field.name, f"names the file {place}, which cannot be read: {_why(error)}"))
            continue
        if secret:
            changes[field.name] = secret
        else:
            wrong.append((field.name, f"names {place}, which is {'empty' if kind == 'file' else 'not set'}"))
    return attrs.evolve(instance, **changes), wrong


def _first_line(file: Path) -> str:
    return (file.read_text("utf-8").splitlines() or [""])[0].strip()


def _why(error: Exception) -> str:
    # The text of a decoding error shows bytes of the file.
    return error.strerror or "no reason given" if isinstance(error, OSError) else "it is not UTF-8"
