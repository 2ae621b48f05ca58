"""The SIP trace: every message that came or left, masked, in a file of bounded size. Off unless ``[sip] trace`` asks.

Each record begins with one line that names when, which way, over what and whose call, so that one call can be taken out
of the file by its Call-ID. The file is written in the reactor's thread: some 50 microseconds for each message.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.logger import Logger
from twisted.python.logfile import LogFile

from agentstream.errors import StartError
from agentstream.sip.grammar import format_host
from agentstream.sip.hop import Hop
from agentstream.sip.mask import mask

KEPT_FILES = 1
"""Older files beside the one that is written."""
MOST_BYTES = 65_536

_CALL_ID = re.compile(rb"^(?:call-id|i)[ \t]*:[ \t]*([^\s]+)", re.IGNORECASE | re.MULTILINE)


class SipTrace:
    """A file of messages.

    :param file: where it is; one older file has the name with ``.1`` behind it.
    :param size: bytes after which a new file begins.
    :param wall_clock: seconds since 1970.
    """

    log = Logger()

    def __init__(self, file: Path, size: int, wall_clock: Callable[[], float]) -> None:
        self._wall_clock = wall_clock
        try:
            # Only for whom this process runs as: it has everybody's numbers in it.
            self._file: Any = LogFile(
                file.name, str(file.parent), rotateLength=size, maxRotatedFiles=KEPT_FILES, defaultMode=0o600
            )
        except OSError as error:
            raise StartError(
                f"the SIP trace {file} cannot be written ({error.strerror}): change [sip] trace_file"
            ) from None

    def received(self, data: bytes, hop: Hop) -> None:
        """A message came."""
        self._write("received from", data, hop)

    def sent(self, data: bytes, hop: Hop) -> None:
        """A message leaves."""
        self._write("sent to", data, hop)

    def _write(self, direction: str, data: bytes, hop: Hop) -> None:
        if self._file is None:
            return
        found = _CALL_ID.search(data)
        call_id = found[1].decode("ascii", "replace") if found else "-"
        at = datetime.datetime.fromtimestamp(self._wall_clock(), datetime.UTC).isoformat(timespec="milliseconds")
        where = f"{hop.transport} {format_host(hop.host)}:{hop.port}"
        text = mask(data[:MOST_BYTES]).decode("utf-8", "backslashreplace").replace("\r\n", "\n")
        try:
            self._file.write(f"---- {at} {direction} {where} {call_id}\n{text.rstrip()}\n\n")
        except OSError as error:
            self.log.error("the SIP trace ends here: {sentence}", sentence=error.strerror)
            self.close()

    def close(self) -> None:
        """Nothing is written any more; harmless when repeated."""
        file, self._file = self._file, None
        if file is not None:
            file.close()
