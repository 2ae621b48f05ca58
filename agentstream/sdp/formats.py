"""Which payload types of an ``m=`` line we understand, and how our own offers number ours."""

from __future__ import annotations

from collections.abc import Sequence

from agentstream.audio.codecs import codec_named, codecs
from agentstream.sdp.description import MediaDescription, SessionDescription, number

DIGITS = "telephone-event"
NOISE = "CN"
NOISE_TYPE = 13
NARROW_CLOCK_HZ = 8000
FIRST_DYNAMIC = 96

Encoding = tuple[str, int]
"""A codec's name, DIGITS or NOISE, and its RTP clock."""

Format = tuple[int, Encoding]
"""A payload type and what it stands for."""

STATIC: dict[str, Encoding] = {
    **{str(codec.payload_type): (codec.name, codec.clock_hz) for codec in codecs() if codec.payload_type is not None},
    str(NOISE_TYPE): (NOISE, NARROW_CLOCK_HZ),
}
"""Payload types that need no rtpmap (RFC 3551 section 6), as far as we serve them."""


def encoding_of(media: MediaDescription, form: str) -> Encoding | None:
    """What a payload type of this ``m=`` line stands for; None for what we do not serve."""
    if number(form, 127) is None or form != str(int(form)):
        return None
    rtpmap = media.payload_attribute("rtpmap", form)
    if rtpmap is None:
        return STATIC.get(form)
    name, _, rest = rtpmap.partition("/")
    clock, _, channels = rest.partition("/")
    name, channels = name.strip().upper(), channels.strip()
    clock_hz = number(clock.strip(), 192_000)
    if clock_hz is None:
        return None
    codec = codec_named(name)
    if codec is not None:
        has_channels = channels == str(codec.channels) or (codec.channels == 1 and not channels)
        return (codec.name, clock_hz) if clock_hz == codec.clock_hz and has_channels else None
    if channels not in ("", "1"):
        return None
    if name == NOISE:
        return (NOISE, clock_hz) if clock_hz == NARROW_CLOCK_HZ else None
    return (DIGITS, clock_hz) if name.lower() == DIGITS else None


def rtpmap_of(encoding: Encoding) -> str:
    """The encoding as an rtpmap of ours has it."""
    codec = codec_named(encoding[0])
    return f"{encoding[0]}/{encoding[1]}" if codec is None else codec.rtpmap


def parameters_of(encoding: Encoding) -> str:
    """Its ``a=fmtp`` in our SDP; "" for none."""
    if encoding[0] == DIGITS:
        return "0-15"  # RFC 4733 section 2.5.1.1: what we can receive: 0-9, *, #, A-D
    codec = codec_named(encoding[0])
    return "" if codec is None else codec.parameters


def offered_formats(names: Sequence[str], digit_type: int, before: SessionDescription | None) -> list[Format]:
    """The formats of an offer: static numbers, those of ``before``, and else dynamic ones.

    Comfort noise is not offered by ourselves: it would invite silence where there is sound. Where the session has it
    already, it stays.

    :param names: of codecs, in order. :param digit_type: the number of telephone-event, if it is free.
    :param before: our last description of the same session.
    """
    chosen = [(codec.name, codec.clock_hz) for codec in map(codec_named, names) if codec is not None]
    place = None if before is None else place_of_audio(before)
    known: dict[Encoding, int] = {}
    if before is not None and place is not None and place < len(before.media):
        ours = before.media[place]
        known = {named: int(form) for form in ours.formats if (named := encoding_of(ours, form)) is not None}
    noise = [named for named in known if named[0] == NOISE]
    wanted = [*chosen, *dict.fromkeys((DIGITS, clock_hz) for _, clock_hz in chosen), *noise]
    used = {*known.values(), *map(int, STATIC)}
    formats: list[Format] = []
    for name, clock_hz in wanted:
        codec = codec_named(name)
        number_of = known.get((name, clock_hz))
        if number_of is None and codec is not None:
            number_of = codec.payload_type
        if number_of is None and codec is None and digit_type not in used:
            number_of = digit_type
        if number_of is None:
            reserved = {*used, digit_type}
            number_of = next(free for free in range(FIRST_DYNAMIC, 128) if free not in reserved)
        used.add(number_of)
        formats.append((number_of, (name, clock_hz)))
    return formats


def place_of_audio(description: SessionDescription) -> int:
    """The number of our ``m=`` line: the audio that is live, else the first that there is; one more than there are
    where there is none."""
    places = [place for place, media in enumerate(description.media) if media.kind == "audio"]
    live = [place for place in places if description.media[place].port]
    return (live or places or [len(description.media)])[0]
