"""What sound is coded in on its way to and from a phone. A codec is one file in this folder; it is found by its name.

A file names its codec ``CODEC``. Nothing else has to be changed for one more: the registry looks into the folder, SDP
offers and accepts what the config names, and the tick codes every row by its own.

Stateless codecs turn matrices into matrices, a packet a row. Stateful ones have a coder for each direction of each
call, which must see the payloads in order.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from agentstream.audio.codecs.codec import Codec, Coder

__all__ = ["Codec", "Coder", "codec_named", "codecs"]


@cache
def codecs() -> tuple[Codec, ...]:
    """Every codec of this folder, in the order of their names; one whose library is not installed is left out.

    A codec's place here is its number in matrices.
    """
    found = []
    for module in pkgutil.iter_modules(__path__):
        try:
            codec = getattr(import_module(f"{__name__}.{module.name}"), "CODEC", None)
        except ModuleNotFoundError as error:
            if error.name is not None and error.name.startswith("agentstream"):
                raise
            continue
        if codec is not None:
            found.append(codec)
    return tuple(sorted(found, key=lambda codec: codec.name))


@cache
def codec_named(name: str) -> Codec | None:
    """The codec of this name, as RTP spells it in capitals (RFC 3551), or None."""
    return next((codec for codec in codecs() if codec.name == name), None)
