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

from agentstream.audio.codecs.codec import Codec, Coder, PacketCoder

__all__ = ["Codec", "Coder", "PacketCoder", "codec_named", "codecs", "missing_library"]


@cache
def codecs() -> tuple[Codec, ...]:
    """Every codec of this folder, in the order of their names; one whose library is not installed is left out.

    A codec's place here is its number in matrices.
    """
    found = [_codec_of(module.name) for module in pkgutil.iter_modules(__path__)]
    return tuple(sorted((one for one in found if isinstance(one, Codec)), key=lambda codec: codec.name))


def _codec_of(module: str) -> Codec | ModuleNotFoundError | None:
    """The codec of a file, or what it lacks; None for a file of something else."""
    try:
        codec: Codec | None = getattr(import_module(f"{__name__}.{module}"), "CODEC", None)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("agentstream"):
            raise
        return error
    return codec


def missing_library(name: str) -> str:
    """What has to be installed for the codec of this name; "" where nothing is missing, or there is no such file."""
    modules = [module.name for module in pkgutil.iter_modules(__path__) if module.name.upper() == name]
    lacking = [found for found in map(_codec_of, modules) if isinstance(found, ModuleNotFoundError)]
    return str(lacking[0]) if lacking else ""


@cache
def codec_named(name: str) -> Codec | None:
    """The codec of this name, as RTP spells it in capitals (RFC 3551), or None."""
    return next((codec for codec in codecs() if codec.name == name), None)
