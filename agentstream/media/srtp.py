"""One key of SRTP and SRTCP at work (RFC 3711, RFC 7714), by libsrtp.

Packets are protected and read in place, in buffers of the caller's: through pylibsrtp's own functions, which copy each
packet twice, a call would cost three times as much (docs/adr/0009-srtp-in-place.md). Everything that is used of it
beside its documented classes is in this file.
"""

from __future__ import annotations

import socket
from typing import Any

import numpy as np
import numpy.typing as npt
from pylibsrtp import Policy, Session
from pylibsrtp._binding import ffi, lib

TRAILER = 16
"""Bytes by which a protected RTP packet is longer at the most."""

CONTROL_TRAILER = 20
"""The same for RTCP: a tag, and the index."""

TAGS = {
    "AES_CM_128_HMAC_SHA1_80": 10,
    "AES_CM_128_HMAC_SHA1_32": 4,
    "AEAD_AES_128_GCM": 16,
    "AEAD_AES_256_GCM": 16,
}
"""Bytes by which a protected RTP packet is longer."""

_PROFILES = {
    "AES_CM_128_HMAC_SHA1_80": Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AES_CM_128_HMAC_SHA1_32": Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    "AEAD_AES_128_GCM": Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    "AEAD_AES_256_GCM": Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}

WINDOW = 128
"""Packets behind the newest that are still told from replayed ones: 2.5 s of 20 ms packets."""

BAD_TAG = "The SRTP packet's authentication tag is wrong."
REPLAYED = "The SRTP packet came before, or is too old to tell."
UNREADABLE = "The datagram is no SRTP packet."
TOO_MANY_SOURCES = "More SSRCs under one SRTP key than are kept apart."

_REASONS = {7: BAD_TAG, 8: BAD_TAG, 9: REPLAYED, 10: REPLAYED}
"""By libsrtp's srtp_err_status_t; all others say that the packet is broken."""

Pointer = Any
"""Where a packet begins, for :meth:`Context.protect` and the like; keeps its buffer alive."""

Count = Any
"""One number that libsrtp reads and writes: ``count[0]``."""

protect, unprotect = lib.srtp_protect, lib.srtp_unprotect
protect_control, unprotect_control = lib.srtp_protect_rtcp, lib.srtp_unprotect_rtcp
"""``f(context.srtp, pointer, count)`` with the packet's length in ``count[0]``, which becomes the new one; gives 0, or
what :func:`reason_of` knows. A packet that is protected needs room behind it."""


def pointer_to(buffer: memoryview | bytearray) -> Pointer:
    """To the first byte of a buffer that can be written."""
    return ffi.from_buffer(buffer, require_writable=True)


def new_count() -> Count:
    """A number to be lent to libsrtp."""
    return ffi.new("int *")


class Counts:
    """Many such numbers, one a packet: a whole pass is protected or read by ``map`` of one of libsrtp's functions.

    :ivar values: int32 (n,), the numbers. :ivar pointers: to each of them.
    """

    def __init__(self, number: int) -> None:
        self.values: npt.NDArray[np.intc] = np.zeros(number, np.intc)
        self._all = ffi.from_buffer("int[]", self.values, require_writable=True)
        self.pointers: list[Count] = [self._all + at for at in range(number)]


def reason_of(code: int) -> str:
    """Why a packet was not read, as a fixed sentence."""
    return _REASONS.get(code, UNREADABLE)


class Context:
    """One master key, one direction. Each SSRC has its rollover counter and, when it is read, its replay window.

    :ivar srtp: what libsrtp knows it by, for as long as this object lives.
    :ivar tag: bytes that it adds to an RTP packet.
    """

    SSRCS = Policy.SSRC_ANY_OUTBOUND

    def __init__(self, suite: str, key: bytes) -> None:
        policy = Policy(key=key, ssrc_type=self.SSRCS, srtp_profile=_PROFILES[suite])
        policy.window_size = WINDOW
        self._session = Session(policy)
        self.srtp = self._session._srtp[0]
        self.tag = TAGS[suite]

    def forget(self, ssrc: int) -> None:
        """Give up what is known of one SSRC; one that is not known is no error."""
        lib.srtp_remove_stream(self.srtp, socket.htonl(ssrc))


class ReadContext(Context):
    """One whose far end chooses the SSRCs: of these it keeps the last few, and none comes back that was given up, for
    what it sent before could be sent once more by anybody.

    :ivar ssrc: the one that was read last.
    """

    SSRCS = Policy.SSRC_ANY_INBOUND
    KEPT = 8
    GIVEN_UP = 1024

    def __init__(self, suite: str, key: bytes) -> None:
        super().__init__(suite, key)
        self.ssrc = -1
        self._kept: dict[int, None] = {}
        self._given_up: set[int] = set()

    def admits(self, ssrc: int) -> bool:
        """A packet of this SSRC was read: whether that may be believed."""
        self.ssrc = ssrc
        if ssrc in self._kept:
            self._kept[ssrc] = self._kept.pop(ssrc)
            return True
        if ssrc in self._given_up or len(self._given_up) == self.GIVEN_UP:
            self.forget(ssrc)
            self.ssrc = -1
            return False
        self._kept[ssrc] = None
        if len(self._kept) > self.KEPT:
            oldest = next(iter(self._kept))
            del self._kept[oldest]
            self._given_up.add(oldest)
            self.forget(oldest)
        return True
