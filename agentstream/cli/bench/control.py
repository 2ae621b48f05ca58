"""How the bench's processes talk: one JSON object a line, orders on standard input, news on standard output."""

from __future__ import annotations

import os
import select
import sys
from typing import Any

import attrs
import orjson


def tell(kind: str, **fields: Any) -> None:
    """Give the process that started this one a piece of news."""
    sys.stdout.buffer.write(orjson.dumps({"kind": kind, **fields}) + b"\n")
    sys.stdout.buffer.flush()


@attrs.define
class Orders:
    """Standard input, read without waiting between two rounds of a loop that has other work.

    :ivar is_over: nobody is there to give orders any more, so this process should end.
    """

    is_over: bool = False
    _buffer: bytes = b""

    def poll(self) -> list[dict[str, Any]]:
        """The orders that have come in since the last call."""
        while select.select([0], [], [], 0)[0]:
            data = os.read(0, 65536)
            if not data:
                self.is_over = True
                break
            self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        return [orjson.loads(line) for line in lines if line.strip()]
