"""docs/config.md from the metadata of the settings: ``python -m agentstream.config.reference`` prints it."""

from __future__ import annotations

import ipaddress
import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from agentstream.config.addresses import PortRange
from agentstream.config.model import Config
from agentstream.config.structure import expected, plain_type

HEAD = """\
# The config file

<!-- Printed by `python -m agentstream.config.reference`; the texts are in agentstream/config/. -->

`twistd -n agentstream --config FILE` serves one [TOML](https://toml.io) file. Every section and every setting with a
default may be left out; a name that is not on this page is a mistake, and so is a value of another type. Relative paths
start at the folder of the file that names them. `agentstream check FILE` finds every mistake without serving anything;
[flows.md](flows.md) explains the flow files and [applets.md](applets.md) the drop-ins.
"""


def reference() -> str:
    """The whole page."""
    parts = [HEAD]
    for field in attrs.fields(Config):
        parts.append("\n".join(_section(field)))
    return "\n".join(parts)


def _section(field: attrs.Attribute[Any]) -> Iterator[str]:
    arguments = typing.get_args(field.type)
    yield f"## `[[{field.name}]]`" if arguments else f"## `[{field.name}]`"
    yield ""
    yield field.metadata["doc"]
    yield ""
    yield "| setting | default | is | for |"
    yield "|---|---|---|---|"
    cls: Any = arguments[0] if arguments else field.type
    for setting in attrs.fields(cls):
        wants = expected(
            plain_type(setting.type), {key: setting.metadata[key] for key in _TOLD if key in setting.metadata}
        )
        default = "required" if setting.default is attrs.NOTHING else _toml(setting.default)
        doc = setting.metadata["doc"]
        if "example" in setting.metadata and f"`{setting.metadata['example']}`" != default:
            doc += f" Example: `{setting.metadata['example']}`"
        yield f"| `{setting.name}` | {default} | {wants} | {doc} |".replace("\n", " ")
    yield ""


_TOLD = ("unit", "range", "multiple", "choices", "least")


def _toml(value: object) -> str:
    """A default as it would be written, in code."""
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return "`[" + ", ".join(_toml(item).strip("`") for item in value) + "]`"
    if isinstance(value, str | Path | PortRange | ipaddress.IPv4Network | ipaddress.IPv6Network):
        return f"`{json.dumps(str(value))}`"
    return f"`{json.dumps(value)}`"


if __name__ == "__main__":
    print(reference(), end="")
