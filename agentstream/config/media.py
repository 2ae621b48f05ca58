"""Sound between this node and the phones: ``[media]``."""
# ruff: noqa: RUF009 - setting() makes an attrs field, and defaults are immutable

from __future__ import annotations

import attrs

from agentstream.config.addresses import PortRange, expect_address, expect_address_or_empty, expect_v6_or_empty
from agentstream.config.metadata import setting


@attrs.frozen
class Media:
    """RTP: sound between this node and the phones."""

    listen: str = setting(
        default="127.0.0.1",
        doc="The address that RTP ports are bound on.",
        check=expect_address,
    )
    listen_v6: str = setting(
        default="",
        doc="The IPv6 address that the RTP ports of calls over IPv6 are bound on, where `listen` is an IPv4 address."
        " Empty: such calls are refused.",
        example='"::1"',
        check=lambda text: "" if not text or (":" in text and not expect_address(text)) else expect_v6_or_empty("-"),
    )
    advertise: str = setting(
        default="",
        doc="The address of RTP in SDP. Empty: the address that SIP advertises.",
        example='"203.0.113.7"',
        check=expect_address_or_empty,
    )
    advertise_v6: str = setting(
        default="",
        doc="The same for calls over IPv6, where `advertise` is an IPv4 address.",
        example='"2001:db8::7"',
        check=expect_v6_or_empty,
    )
    ports: PortRange = setting(
        default=PortRange(20000, 24999),
        doc="The UDP ports of calls: RTP on an even port, RTCP on the next. A pair rests 2 s before it is used again.",
        example='"20000-24999"',
    )
    playout_ms: int = setting(
        default=60,
        doc="How long a caller's sound is held back at first, so that late packets still find their place.",
        unit="ms",
        range=(20, 400),
        multiple=10,
    )
    playout_min_ms: int = setting(
        default=20,
        doc="The least to which that delay shrinks on a clean line. Equal to `playout_max_ms`: it is fixed.",
        unit="ms",
        range=(20, 400),
        multiple=10,
    )
    playout_max_ms: int = setting(
        default=400,
        doc="The most to which it grows on a rough one.",
        unit="ms",
        range=(20, 400),
        multiple=10,
    )
    codecs: tuple[str, ...] = setting(
        default=("PCMU", "PCMA"),
        doc="What phones may speak: `PCMU`, `PCMA`, `G722`, `L16` and `OPUS`. Of what a phone offers, the first in"
        " its order is taken; this is the order in which we offer. `G722` and `OPUS` have 16 kHz, and cost several"
        " times as much."
        ' `OPUS` needs `pip install "agentstream[opus]"` and the library libopus.',
        least=1,
        example='["G722", "PCMU", "PCMA"]',
    )
    inband_dtmf: bool = setting(
        default=True,
        doc="Whether digits are heard as tones from phones with which `telephone-event` was not agreed on.",
    )
    max_calls: int = setting(
        default=200,
        doc="Calls at once, those that we make counted, too; the next one is answered 503.",
        range=(1, 10000),
    )
    playback_s: int = setting(
        default=600,
        doc="How much sound one bot may queue before its connection is read no further.",
        unit="s",
        range=(1, 3600),
    )
    playback_memory_mb: int = setting(
        default=1024,
        doc="How much sound all bots together may queue before their connections are read no further.",
        unit="MiB",
        range=(16, 65536),
    )
    speech_detector: str = setting(
        default="energy",
        doc="Who says that a caller speaks. `silero`: a neural network, too, which tells speech from music, noise and"
        " tones, takes a thousandth of a core for each caller who speaks, and comes with the extra"
        " `agentstream[silero]`.",
        choices=("energy", "silero"),
    )
    speech_level_dbov: float = setting(
        default=-40.0,
        doc="What is quieter than this is never speech of the caller; above what comes back as echo of the bot.",
        unit="dBov",
        range=(-70.0, -10.0),
    )
    speech_above_noise_db: float = setting(
        default=7.5,
        doc="How far speech is above the noise of its own line.",
        unit="dB",
        range=(3.0, 30.0),
    )
    speech_start_ms: int = setting(
        default=80,
        doc="How much speech is heard until a caller speaks.",
        unit="ms",
        range=(20, 500),
        multiple=20,
    )
    speech_stop_ms: int = setting(
        default=300,
        doc="How much quiet is heard until a caller has stopped.",
        unit="ms",
        range=(100, 3000),
        multiple=20,
    )
    silence_event_s: int = setting(
        default=10,
        doc="How long no RTP may come from a phone that is not on hold before the timeline says `rtp_stopped`; 0 for"
        " never. Phones that suppress silence send none while nobody speaks.",
        unit="s",
        range=(0, 3600),
    )
    rtp_timeout_s: int = setting(
        default=300,
        doc="How long neither RTP nor RTCP may come from a phone that is not on hold before the call is hung up; 0 for"
        " never.",
        unit="s",
        range=(0, 86400),
    )
