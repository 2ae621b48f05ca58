"""The rows whose sound is SRTP: what arrives for them is read here before anything else looks at it.

A packet whose tag is wrong, or that came before, is counted by its reason and gone: it is neither heard nor does any
source become the one that a row hears by it. Rows in clear are not looked at, and where there is no other nothing is
done at all. Two C calls a row and tick are what this costs, one here and one in egress.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

import attrs
import numpy as np
import numpy.typing as npt

from agentstream.media import srtp
from agentstream.media.ports import PACKET_CAPACITY, Pass
from agentstream.media.srtp import Context, ReadContext
from agentstream.sdp import Keys

_C = TypeVar("_C", bound=Context)

KEPT_S = 1.0
"""Seconds for which what a far end sends under the key before is heard."""

KEPT_KEYS = len(srtp.TAGS)
"""Keys of a row and direction that are known still: as many as one offer has."""


@attrs.define
class _Row:
    """The contexts of one row.

    A key that comes back goes on where it was: begun anew, its rollover counter would give the same keystream twice
    (RFC 3711 section 9.1), and what came before could come again. It does come back where the far end answers offers of
    ours, each of which has one key a suite, with now this suite and now that.

    :ivar keys: those that are in use; None: the row has become one in clear.
    :ivar sends: the contexts of the keys that it sent under, the last used last. :ivar reads: the same of what is read.
    :ivar left: the context of the key before, until ``left_until``, in monotonic seconds.
    """

    keys: Keys | None = None
    send: Context | None = None
    read: ReadContext | None = None
    left: ReadContext | None = None
    left_until: float = 0.0
    sends: dict[tuple[str, bytes], Context] = attrs.Factory(dict)
    reads: dict[tuple[str, bytes], ReadContext] = attrs.Factory(dict)


class Protection:
    """All of them.

    :param inbox: uint8 (rows, PACKET_CAPACITY), where a pass puts its datagrams; ``views`` its rows.
    :param refused: of each row, what was not heard and why.
    """

    def __init__(
        self, rows: int, inbox: npt.NDArray[np.uint8], views: Sequence[memoryview], refused: list[Counter[str]]
    ) -> None:
        self._rows: dict[int, _Row] = {}
        self._is_secure = np.zeros(rows, np.bool_)
        self._inbox = inbox
        self._views = views
        self._refused = refused
        self._pointers: list[srtp.Pointer] = []
        self._counts: srtp.Counts | None = None
        # Of each row the source whose next packet libsrtp may read without another question (-1: none), and by what.
        self._ssrc = np.full(rows, -1, np.int64)
        self._sessions: list[srtp.Pointer | None] = [None] * rows
        self._count = srtp.new_count()
        self._scratch = bytearray(PACKET_CAPACITY + srtp.CONTROL_TRAILER)
        self._scratch_pointer = srtp.pointer_to(self._scratch)

    @property
    def count(self) -> int:
        """Rows that have keys, or had them a second ago."""
        return len(self._rows)

    @property
    def is_idle(self) -> bool:
        """Every row is one in clear."""
        return not self._rows

    def describe(self, row: int, keys: Keys | None, now: float) -> Context | None:
        """What offer and answer agreed on; gives what protects the packets that the row sends, None for none.

        A key that did not change keeps its rollover counters and what is known of replays.
        """
        mine = self._rows.get(row)
        if mine is None:
            if keys is None:
                return None
            mine = self._rows[row] = _Row()
            self._is_secure[row] = True
            if not self._pointers:
                self._pointers = [srtp.pointer_to(view) for view in self._views]
                self._counts = srtp.Counts(len(self._views))
        before, mine.keys = mine.keys, keys
        if keys is None:
            mine.send = None
        elif before is None or (before.suite, before.send) != (keys.suite, keys.send):
            mine.send = _again(mine.sends, keys.suite, keys.send, Context)
        if _reads_as(before) != _reads_as(keys):
            self._read_by(mine, keys, now)
        self._settle(row, mine)
        return mine.send

    @staticmethod
    def _read_by(mine: _Row, keys: Keys | None, now: float) -> None:
        read, left = mine.read, mine.left
        mine.read = None if keys is None else _again(mine.reads, keys.suite, keys.receive, ReadContext)
        if read is not None:
            mine.left, mine.left_until = read, now + KEPT_S
        elif mine.read is left:
            mine.left = None

    def _settle(self, row: int, mine: _Row) -> None:
        """Note what the row's next packet may be read by at once."""
        read = mine.read if mine.left is None else None
        self._ssrc[row] = -1 if read is None else read.ssrc
        self._sessions[row] = None if read is None else read.srtp

    def close(self, row: int) -> None:
        """The row is nobody's."""
        self._rows.pop(row, None)
        self._is_secure[row] = False
        self._ssrc[row] = -1
        self._sessions[row] = None

    # In

    def open(self, arrived: Pass, now: float) -> None:
        """Read what a pass brought for rows with keys, in place; what cannot be read is no longer part of it."""
        if arrived.rows:
            self._open_packets(arrived, now)
        if arrived.control:
            arrived.control[:] = [
                (row, opened, source)
                for row, data, source in arrived.control
                if (opened := self._open_control(row, data, now)) is not None
            ]

    def _open_packets(self, arrived: Pass, now: float) -> None:
        numbers, lengths = arrived.rows, arrived.lengths
        places = np.flatnonzero(self._is_secure[numbers])
        if not len(places):
            return
        headers = self._inbox[places, :12]
        is_control = headers[:, 1] >> 5 == 6  # see rtp.packet.is_rtcp
        ssrcs = np.where(is_control, *(headers[:, at : at + 4].copy().view(">u4")[:, 0] for at in (4, 8)))
        is_next = (ssrcs == self._ssrc[numbers][places]) & ~is_control
        lost = self._open_next(arrived, places[is_next].tolist()) if is_next.any() else []
        if not is_next.all():
            others = ~is_next
            for at, *kind in zip(
                places[others].tolist(), is_control[others].tolist(), ssrcs[others].tolist(), strict=True
            ):
                row, (control, ssrc) = numbers[at], kind
                mine = self._rows[row]
                length = self._open_slowly(row, mine, at, lengths[at], (control, ssrc), now)
                if row in self._rows:
                    self._settle(row, mine)
                if length < 0:
                    lost.append(at)
                else:
                    lengths[at] = length
        for at in sorted(lost, reverse=True):
            self._drop(arrived, at)

    def _open_next(self, arrived: Pass, places: list[int]) -> list[int]:
        """Read packets whose sources are those of their rows; gives the places of what could not be read."""
        assert self._counts is not None  # made for the first row with keys
        numbers, lengths, values = arrived.rows, arrived.lengths, self._counts.values
        pointers, counts, sessions = self._pointers, self._counts.pointers, self._sessions
        values[: len(lengths)] = lengths
        codes = list(
            map(
                srtp.unprotect,
                [sessions[numbers[at]] for at in places],
                [pointers[at] for at in places],
                [counts[at] for at in places],
            )
        )
        lengths[:] = values[: len(lengths)].tolist()
        if not any(codes):
            return []
        lost = [(at, code) for at, code in zip(places, codes, strict=True) if code]
        for at, code in lost:
            self._refused[numbers[at]][srtp.reason_of(code)] += 1
        return [at for at, _ in lost]

    def _open_slowly(self, row: int, mine: _Row, at: int, length: int, kind: tuple[bool, int], now: float) -> int:
        """What follows from a packet that is not simply the next of its source: its length without what protected
        it, or -1."""
        is_control, ssrc = kind
        view = self._views[at]
        if mine.left is None:
            return self._read(row, mine.read, self._pointers[at], length, kind)
        if now >= mine.left_until:
            mine.left = None
            if mine.read is None:
                self.close(row)
                return length
            return self._read(row, mine.read, self._pointers[at], length, kind)
        came = bytes(view[:length])  # which libsrtp may spoil
        unprotect = srtp.unprotect_control if is_control else srtp.unprotect
        for context in (mine.read, mine.left):
            if context is None:
                continue
            self._count[0] = length
            if not unprotect(context.srtp, self._pointers[at], self._count) and context.admits(ssrc):
                return int(self._count[0])
            view[:length] = came
        if mine.read is None:
            return length  # in clear, as was agreed
        return self._read(row, mine.read, self._pointers[at], length, kind)

    def _read(
        self, row: int, context: ReadContext | None, pointer: srtp.Pointer, length: int, kind: tuple[bool, int]
    ) -> int:
        is_control, ssrc = kind
        assert context is not None  # the row is in clear, and not here, where nothing is left either
        self._count[0] = length
        unprotect = srtp.unprotect_control if is_control else srtp.unprotect
        code = unprotect(context.srtp, pointer, self._count)
        if code:
            self._refused[row][srtp.reason_of(code)] += 1
            return -1
        if not context.admits(ssrc):
            self._refused[row][srtp.TOO_MANY_SOURCES] += 1
            return -1
        return int(self._count[0])

    def _drop(self, arrived: Pass, at: int) -> None:
        """Take one datagram out of a pass; the last one takes its place."""
        last = len(arrived.rows) - 1
        if at != last:
            self._inbox[at] = self._inbox[last]
            arrived.rows[at], arrived.lengths[at] = arrived.rows[last], arrived.lengths[last]
            arrived.sources[at] = arrived.sources[last]
        del arrived.rows[last], arrived.lengths[last], arrived.sources[last]
        if at in arrived.others:
            arrived.others.remove(at)
        if at != last and last in arrived.others:
            arrived.others[arrived.others.index(last)] = at

    def _open_control(self, row: int, data: bytes, now: float) -> bytes | None:
        """RTCP from a row's odd port."""
        mine = self._rows.get(row)
        if mine is None:
            return data
        kind = (True, int.from_bytes(data[4:8], "big"))
        if mine.left is not None and now < mine.left_until:
            length = self._try_control(mine.left, data, kind)
            if length >= 0:
                return bytes(self._scratch[:length])
        if mine.read is None:
            return data
        self._scratch[: len(data)] = data
        length = self._read(row, mine.read, self._scratch_pointer, len(data), kind)
        return bytes(self._scratch[:length]) if length >= 0 else None

    def _try_control(self, context: ReadContext, data: bytes, kind: tuple[bool, int]) -> int:
        self._scratch[: len(data)] = data
        self._count[0] = len(data)
        if srtp.unprotect_control(context.srtp, self._scratch_pointer, self._count) or not context.admits(kind[1]):
            return -1
        return int(self._count[0])

    # Out

    def protect_control(self, row: int, packet: bytes) -> bytes:
        """RTCP of ours, as it is to leave."""
        mine = self._rows.get(row)
        if mine is None or mine.send is None:
            return packet
        self._scratch[: len(packet)] = packet
        self._count[0] = len(packet)
        if srtp.protect_control(mine.send.srtp, self._scratch_pointer, self._count):
            raise OSError("libsrtp has refused to protect a packet")  # which leaves it unsent, and counted
        return bytes(self._scratch[: self._count[0]])

    def forget_ssrc(self, row: int, ssrc: int) -> None:
        """The row sends under another SSRC from now on."""
        mine = self._rows.get(row)
        if mine is not None and mine.send is not None:
            mine.send.forget(ssrc)


def _reads_as(keys: Keys | None) -> tuple[str, bytes] | None:
    return None if keys is None else (keys.suite, keys.receive)


def _again(known: dict[tuple[str, bytes], _C], suite: str, key: bytes, make: Callable[[str, bytes], _C]) -> _C:
    """The context of a key, the one that it had if it had one; of the others the oldest is given up."""
    context = known[suite, key] = known.pop((suite, key), None) or make(suite, key)
    if len(known) > KEPT_KEYS:
        del known[next(iter(known))]
    return context
