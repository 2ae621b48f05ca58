"""The rows whose sound is SRTP: what arrives for them is read here before anything else looks at it.

A packet whose tag is wrong, or that came before, is counted by its reason and gone: it is neither heard nor does any
source become the one that a row hears by it. Rows in clear are not looked at, and where there is no other nothing is
done at all. Two C calls a row and tick are what this costs, one here and one in egress.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import attrs
import numpy as np
import numpy.typing as npt

from agentstream.media import srtp
from agentstream.media.ports import PACKET_CAPACITY, Pass
from agentstream.media.srtp import Context, ReadContext
from agentstream.sdp import Keys

KEPT_S = 1.0
"""Seconds for which what a far end sends under the key before is heard."""


@attrs.define
class _Row:
    """The contexts of one row.

    :ivar keys: those that are in use; None: the row has become one in clear.
    :ivar left: the context of the key before, and ``left_keys`` that key. :ivar left_until: monotonic seconds.
    """

    keys: Keys | None = None
    send: Context | None = None
    read: ReadContext | None = None
    left: ReadContext | None = None
    left_keys: Keys | None = None
    left_until: float = 0.0


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
        before, mine.keys = mine.keys, keys
        if keys is None:
            mine.send = None
        elif before is None or (before.suite, before.send) != (keys.suite, keys.send):
            mine.send = Context(keys.suite, keys.send, sends=True)
        if _reads_as(before) != _reads_as(keys):
            self._read_by(mine, before, keys, now)
        return mine.send

    @staticmethod
    def _read_by(mine: _Row, before: Keys | None, keys: Keys | None, now: float) -> None:
        read, left = mine.read, mine.left
        if keys is None:
            mine.read = None
        elif left is not None and _reads_as(mine.left_keys) == _reads_as(keys):
            mine.read = left  # back to the key before: what was heard under it is not heard again
        else:
            mine.read = ReadContext(keys.suite, keys.receive)
        if read is not None:
            mine.left, mine.left_keys, mine.left_until = read, before, now + KEPT_S
        elif mine.read is left:
            mine.left = None

    def close(self, row: int) -> None:
        """The row is nobody's."""
        self._rows.pop(row, None)
        self._is_secure[row] = False

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
        rows, pointers, count, unprotect = self._rows, self._pointers, self._count, srtp.unprotect
        lost: list[int] = []
        for at, control, ssrc in zip(places.tolist(), is_control.tolist(), ssrcs.tolist(), strict=True):
            mine = rows[numbers[at]]
            read = mine.read
            if control or read is None or mine.left is not None or ssrc != read.ssrc:
                length = self._open_slowly(numbers[at], mine, at, lengths[at], (control, ssrc), now)
                if length < 0:
                    lost.append(at)
                else:
                    lengths[at] = length
                continue
            count[0] = lengths[at]
            code = unprotect(read.srtp, pointers[at], count)
            if code:
                self._refused[numbers[at]][srtp.reason_of(code)] += 1
                lost.append(at)
            else:
                lengths[at] = count[0]
        for at in reversed(lost):
            self._drop(arrived, at)

    def _open_slowly(self, row: int, mine: _Row, at: int, length: int, kind: tuple[bool, int], now: float) -> int:
        """What follows from a packet that is not simply the next of its source: its length without what protected
        it, or -1."""
        is_control, ssrc = kind
        view = self._views[at]
        if mine.left is None:
            return self._read(row, mine.read, self._pointers[at], length, kind)
        if now >= mine.left_until:
            mine.left = mine.left_keys = None
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
