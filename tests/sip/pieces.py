"""What breaks a parser of SIP where somebody puts it: the ends and separators of its grammar, and bytes of none."""

from __future__ import annotations

PIECES = (
    b"\r\n",
    b"\r\n\r\n",
    b":",
    b";",
    b",",
    b"<",
    b">",
    b'"',
    b"\\",
    b" ",
    b"\x00",
    b"\xff",
    b"%",
    b"\r\n ",
    b"SIP/2.0",
)
