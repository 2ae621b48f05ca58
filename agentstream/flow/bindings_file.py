"""The bindings of phones in a file, so that they outlive a restart: SQLite, one transaction a second at most.

SQLite writes whole transactions or nothing, and only the rows of the phones that changed: a file that is written anew
as a whole would hold up the media tick with ten thousand phones. All calls but :meth:`BindingsFile.load` are made in
the thread for files, whose calls hold no lock of the interpreter.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from agentstream.errors import StartError
from agentstream.sip.hop import Hop
from agentstream.sip.registrar import Binding

Row = tuple[str, str, str, int, float, str, str, str, int, str]

_TABLE = """\
create table if not exists binding (
    user text not null, contact text not null, call_id text not null, cseq integer not null, until real not null,
    path text not null, transport text not null, host text not null, port integer not null, local text not null,
    primary key (user, contact)
)"""


def rows_of(bindings: Iterable[Binding], offset_s: float) -> list[Row]:
    """What is written of bindings; ``offset_s`` makes seconds since 1970 of monotonic seconds."""
    return [
        (
            one.user,
            one.contact,
            one.call_id,
            one.cseq,
            one.until + offset_s,
            json.dumps(one.path),
            one.hop.transport,
            one.hop.host,
            one.hop.port,
            one.hop.local,
        )
        for one in bindings
    ]


class BindingsFile:
    """One file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: sqlite3.Connection | None = None

    def load(self, offset_s: float) -> list[Binding]:
        """What was there, with monotonic times; StartError where the file is no such file."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._database = database = sqlite3.connect(self._path, check_same_thread=False)
            database.execute("pragma journal_mode = wal")
            database.execute("pragma synchronous = normal")
            database.execute(_TABLE)
            rows: list[Row] = database.execute("select * from binding order by rowid").fetchall()
        except (sqlite3.Error, OSError) as error:
            raise StartError(
                f"the registrations in {self._path} cannot be read ({error}): move the file away"
            ) from None
        return [
            Binding(
                user, contact, call_id, cseq, until - offset_s, tuple(json.loads(path)), Hop(kind, host, port, local)
            )
            for user, contact, call_id, cseq, until, path, kind, host, port, local in rows
        ]

    def save(self, changed: Mapping[str, Sequence[Row]]) -> None:
        """The rows of these users, in place of those that are there; all of it or nothing."""
        assert self._database is not None
        with self._database as database:
            for user, rows in changed.items():
                database.execute("delete from binding where user = ?", (user,))
                database.executemany(f"insert into binding values ({', '.join('?' * 10)})", rows)

    def close(self) -> None:
        """Behind the last :meth:`save`."""
        if self._database is not None:
            self._database.close()
            self._database = None
