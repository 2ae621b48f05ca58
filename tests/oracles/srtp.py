"""SRTP of one packet, by hand (RFC 3711): key derivation, counter mode, the tag. Only AES_CM_128_HMAC_SHA1_80."""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

TAG_BYTES = 10


def keystream(key: bytes, start: int, length: int) -> bytes:
    """AES in counter mode from this 128-bit block number on (section 4.1.1)."""
    encryptor = Cipher(algorithms.AES(key), modes.CTR(start.to_bytes(16, "big"))).encryptor()
    return encryptor.update(bytes(length))


def derived(key: bytes, salt: bytes, label: int, length: int) -> bytes:
    """A session key (section 4.3.1), with a key derivation rate of zero."""
    x = int.from_bytes(salt, "big") ^ (label << 48)
    return keystream(key, x << 16, length)


def protect(master: bytes, packet: bytes, rollover: int) -> bytes:
    """A packet with a header of twelve bytes, as it is on the wire.

    :param master: master key and salt, 30 bytes. :param rollover: how often its sequence number has begun anew.
    """
    key, salt = master[:16], master[16:]
    header, payload = packet[:12], packet[12:]
    index = (rollover << 16) | int.from_bytes(header[2:4], "big")
    ssrc = int.from_bytes(header[8:12], "big")
    session_salt = int.from_bytes(derived(key, salt, 2, 14), "big")
    block = (session_salt << 16) ^ (ssrc << 64) ^ (index << 16)
    stream = keystream(derived(key, salt, 0, 16), block, len(payload))
    secured = header + bytes(a ^ b for a, b in zip(payload, stream, strict=True))
    tag = hmac.new(derived(key, salt, 1, 20), secured + rollover.to_bytes(4, "big"), hashlib.sha1).digest()
    return secured + tag[:TAG_BYTES]
