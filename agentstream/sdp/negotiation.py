"""Offer and answer (RFC 3264) for one audio stream of any registered codec with telephone-event (RFC 4733).

Payload types are the other side's to choose: what we send carries the numbers of its description, what we receive
those of ours.
"""

from __future__ import annotations

import ipaddress

import attrs

from agentstream.audio.codecs import codec_named, codecs
from agentstream.errors import LocalProtocolError, RemoteProtocolError
from agentstream.sdp import crypto
from agentstream.sdp.description import (
    Attributes,
    Connection,
    MediaDescription,
    Origin,
    SessionDescription,
    address_type,
    number,
)
from agentstream.sdp.formats import (
    DIGITS,
    NOISE,
    Format,
    encoding_of,
    offered_formats,
    parameters_of,
    place_of_audio,
    rtpmap_of,
)

PROTOCOL = "RTP/AVP"
_PROTOCOLS = {
    crypto.OFF: (PROTOCOL,),
    crypto.OPTIONAL: (PROTOCOL, crypto.SECURE),
    crypto.REQUIRED: (crypto.SECURE,),
}
UNSPECIFIED = ("0.0.0.0", "::")
RTCP_TYPES = range(64, 96)
"""Payload types that look like RTCP packets where both share a port (RFC 5761 section 4)."""


@attrs.frozen
class LocalMedia:
    """Our side of one session.

    :ivar host: the address that the other side sends RTP to. :ivar port: its even RTP port.
    :ivar codecs: in the order in which we offer them; an answer follows the offer's order.
    :ivar session_id: of the ``o=`` line, the same for the whole call.
    :ivar session_version: of the first description; see :func:`revise` for the later ones.
    :ivar digit_payload_type: what an offer of ours gives telephone-event.
    :ivar is_holding: we hold the other side: what it says is not wanted (RFC 3264 section 8.4).
    :ivar srtp: ``off``, ``optional`` (an offer is answered as it is; our own first one is RTP/AVP) or ``required``.
    :ivar random_bytes: for keys; needed where ``srtp`` is not off.
    """

    host: str
    port: int
    codecs: tuple[str, ...] = ("PCMU", "PCMA")
    session_id: int = 1
    session_version: int = 1
    ptime_ms: int = 20
    digit_payload_type: int = 101
    is_holding: bool = False
    srtp: str = crypto.OFF
    random_bytes: crypto.RandomBytes | None = attrs.field(default=None, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if not self.codecs or any(codec_named(codec) is None for codec in self.codecs):
            raise LocalProtocolError(f"only {', '.join(codec.name for codec in codecs())} can be negotiated")


@attrs.frozen
class MediaPlan:
    """What offer and answer came to.

    :ivar remote_host: an IP address; for a stream on hold it may be ``0.0.0.0`` or ``::``.
    :ivar remote_port: 0 for a stream that is disabled: nothing is sent or heard until the next description.
    :ivar codec: its name in :mod:`agentstream.audio.codecs`.
    :ivar send_digit_payload_type: what telephone-events carry that we send; None when the other side takes none.
    :ivar receive_noise_payload_type: what comfort noise carries that we get (RFC 3389); None where that was not agreed.
    :ivar ptime_ms: the packet time that the other side asks for, milliseconds; 20 where it does not say.
    :ivar control_host: where its RTCP is to go (RFC 3605); "" is ``remote_host``.
    :ivar control_port: the port of that; 0 is the one behind ``remote_port``.
    :ivar is_muxed: RTP and RTCP share the port, both ways (RFC 5761).
    :ivar clock_hz: RTP timestamp units a second, of sound and of telephone-events.
    :ivar parameters: what the far end's ``a=fmtp`` says of the codec; "" for nothing.
    :ivar wants_voip_metrics: it asked for VoIP metrics in extended reports (RFC 3611 section 5).
    :ivar may_send: false on hold (their sendonly or inactive, or the address 0.0.0.0).
    :ivar may_receive: false when they will not send (their recvonly or inactive), or when we hold them.
    :ivar keys: of SRTP; None for RTP in clear.
    """

    remote_host: str
    remote_port: int
    codec: str
    send_payload_type: int
    receive_payload_type: int
    send_digit_payload_type: int | None = None
    receive_digit_payload_type: int | None = None
    ptime_ms: int = 20
    maxptime_ms: int | None = None
    may_send: bool = True
    may_receive: bool = True
    control_host: str = ""
    control_port: int = 0
    is_muxed: bool = False
    wants_voip_metrics: bool = False
    clock_hz: int = 8000
    parameters: str = ""
    receive_noise_payload_type: int | None = None
    keys: crypto.Keys | None = None


def make_offer(
    local: LocalMedia, before: SessionDescription | None = None, now: MediaPlan | None = None
) -> SessionDescription:
    """Our offer: every codec of ours, and telephone-event at each of their clocks. The answer says where RTCP is.

    :param before: our last description of the same session. RFC 3264 section 8: its ``m=`` lines keep their places;
        those that were declined stay declined.
    :param now: what was agreed: of the keys in ``before`` only the one in use is offered again.
    """
    direction = "sendonly" if local.is_holding else "sendrecv"
    formats = offered_formats(local.codecs, local.digit_payload_type, before)
    place = 0 if before is None else place_of_audio(before)
    last = before.media[place] if before is not None and place < len(before.media) else None
    # A session stays what it is.
    is_secure = crypto.is_secure(last) if last is not None and last.port else local.srtp == crypto.REQUIRED
    lines = crypto.offered(last, None if now is None else now.keys, local.random_bytes) if is_secure else []
    audio = _audio(local, formats, direction, lines, is_muxed=True)
    if before is None:
        return _describe(local, (audio,))
    media = [attrs.evolve(one, port=0, connection=None, attributes=()) for one in before.media]
    media[place : place + 1] = [audio]
    return attrs.evolve(_describe(local, tuple(media)), time=before.time)


def revise(before: SessionDescription | None, description: SessionDescription) -> SessionDescription:
    """The description with the version that it must have behind ``before``, our last one in this session.

    RFC 3264 section 8: "When issuing an offer that modifies the session, the "o=" line of the new SDP MUST be identical
    to that in the previous SDP, except that the version in the origin field MUST increment by one from the previous
    SDP. If the version in the origin line does not increment, the SDP MUST be identical to the SDP with that version
    number."
    """
    if before is None:
        return description
    same = attrs.evolve(description, origin=before.origin)
    if same == before:
        return same
    return attrs.evolve(same, origin=attrs.evolve(before.origin, version=before.origin.version + 1))


def family_of(offer: SessionDescription) -> str:
    """``IP4`` or ``IP6``: the family of the address that the offer's first live audio is to be sent to; "" where it has
    none."""
    for media in offer.media:
        connection = media.connection or offer.connection
        if media.kind == "audio" and media.port and connection is not None:
            return connection.address_type
    return ""


def answer_offer(
    offer: SessionDescription, local: LocalMedia, now: MediaPlan | None = None
) -> tuple[SessionDescription, MediaPlan]:
    """Our answer to the offer, and what it means.

    The first ``m=`` line that we can serve is accepted, of those with SRTP first; every other one is declined with
    port 0. Raises RemoteProtocolError (488) with the reason where none can be served.

    :param now: what was agreed before. With it, an offer that sets the port of all audio to 0 is no refusal but ends
        the stream and not the session (RFC 3264 section 8.2); and keys that did not change stay.
    """
    # RFC 3264 section 6: "To reject an offered stream, the port number in the corresponding stream in the answer MUST
    # be set to zero. Any media formats listed are ignored. At least one MUST be present".
    answers = [MediaDescription(media.kind, 0, media.protocol, media.formats) for media in offer.media]
    plan: MediaPlan | None = None
    refusal: RemoteProtocolError | None = None
    places = [place for place, media in enumerate(offer.media) if media.kind == "audio"]
    for place in sorted(places, key=lambda place: not crypto.is_secure(offer.media[place])):
        try:
            plan, answers[place] = _accept(offer, offer.media[place], local, now)
            break
        except RemoteProtocolError as error:
            refusal = refusal or error
    if plan is None and now is not None and _is_disabled(offer):
        plan = attrs.evolve(now, remote_port=0, may_send=False, may_receive=False)
    if plan is None:
        raise refusal or RemoteProtocolError("the offer has no audio", 488)
    # RFC 3264 section 6: 'The "t=" line in the answer MUST equal that of the offer.'
    return attrs.evolve(_describe(local, tuple(answers)), time=offer.time), plan


def _is_disabled(offer: SessionDescription) -> bool:
    """It has audio, and none of it has a port."""
    ports = [media.port for media in offer.media if media.kind == "audio"]
    return bool(ports) and not any(ports)


def accept_answer(offer: SessionDescription, answer: SessionDescription) -> MediaPlan:
    """What the answer to our offer came to; raises RemoteProtocolError (488) where it cannot be used."""
    place = place_of_audio(offer)
    ours = offer.media[place]
    if len(answer.media) != len(offer.media):
        # RFC 3264 section 6: "The answer MUST contain exactly the same number of m= lines as the offer".
        raise RemoteProtocolError("the answer has not as many media as the offer", 488)
    media = answer.media[place]
    if media.kind != "audio" or media.protocol.upper() != ours.protocol:
        raise RemoteProtocolError(f"the answer to our audio is not audio over {ours.protocol}", 488)
    if media.port == 0:
        raise RemoteProtocolError("the answer declines the audio", 488)
    offered = {encoding_of(ours, form): int(form) for form in ours.formats}
    # A dynamic number without an rtpmap of its own means what it meant in the offer.
    pairs = [(form, encoding_of(media, form) or encoding_of(ours, form)) for form in media.formats]
    chosen = next(
        (
            (int(form), named)
            for form, named in pairs
            if named in offered and named is not None and named[0] not in (DIGITS, NOISE)
        ),
        None,
    )
    if chosen is None:
        raise RemoteProtocolError("the answer names no audio codec of the offer", 488)
    send, (codec, clock_hz) = chosen
    digits = next((int(form) for form, named in pairs if named == (DIGITS, clock_hz)), None)
    noise = _noise_of(codec)
    plan = _plan(
        answer,
        media,
        codec=codec,
        send=send,
        receive=offered[codec, clock_hz],
        send_digit=digits,
        receive_digit=offered.get((DIGITS, clock_hz)) if digits is not None else None,
        receive_noise=offered.get(noise) if noise is not None and noise in (named for _, named in pairs) else None,
        is_holding=ours.direction == "sendonly",
        may_mux=ours.attribute("rtcp-mux") is not None,
        keys=crypto.accepted(ours, media) if crypto.is_secure(ours) else None,
    )
    connection = ours.connection or offer.connection
    if connection is not None:
        _check_family(plan, connection.address_type, "answer")
    return plan


def _check_family(plan: MediaPlan, ours: str, what: str) -> None:
    """A call's RTP is in one IP family."""
    if plan.remote_host not in UNSPECIFIED and address_type(plan.remote_host) != ours:
        raise RemoteProtocolError(f"the {what}'s connection address is of another IP family than ours", 488)


def _accept(
    offer: SessionDescription, media: MediaDescription, local: LocalMedia, now: MediaPlan | None
) -> tuple[MediaPlan, MediaDescription]:
    if media.port == 0:
        raise RemoteProtocolError("the offer's audio has port 0", 488)
    served = _PROTOCOLS[local.srtp]
    if media.protocol.upper() not in served:
        raise RemoteProtocolError(f"only audio over {' or '.join(served)} is served", 488)
    pairs = [(int(form), named) for form in media.formats if (named := encoding_of(media, form)) is not None]
    # RFC 3264 section 6.1: "it is RECOMMENDED that the answerer ... list the formats in the same relative order they
    # were present in the offer".
    chosen = next(((form, named) for form, named in pairs if named[0] in local.codecs), None)
    if chosen is None:
        raise RemoteProtocolError(f"the offer holds none of our audio codecs: {', '.join(local.codecs)}", 488)
    payload_type, (codec, clock_hz) = chosen
    # RFC 4733 section 2.1: events count the clock of the sound that they stand for.
    digits = next((form for form, named in pairs if named == (DIGITS, clock_hz)), None)
    noise = next((form for form, named in pairs if named == _noise_of(codec)), None)
    line, keys = None, None
    if crypto.is_secure(media):
        line, keys = crypto.choose(media, None if now is None else now.keys, local.random_bytes)
    # RFC 3264 section 6.1: the answerer uses the offer's numbers, so both directions carry the same ones.
    plan = _plan(
        offer,
        media,
        codec=codec,
        send=payload_type,
        receive=payload_type,
        send_digit=digits,
        receive_digit=digits,
        receive_noise=noise,
        is_holding=local.is_holding,
        may_mux=True,
        keys=keys,
    )
    _check_family(plan, address_type(local.host), "offer")
    formats: list[Format] = [(payload_type, (codec, clock_hz))]
    if digits is not None:
        formats.append((digits, (DIGITS, clock_hz)))
    if noise is not None:
        formats.append((noise, (NOISE, clock_hz)))
    direction = {
        (True, True): "sendrecv",
        (True, False): "sendonly",
        (False, True): "recvonly",
        (False, False): "inactive",
    }[(plan.may_send, plan.may_receive)]
    lines = [] if line is None else [line]
    answer = _audio(local, formats, direction, lines, is_muxed=plan.is_muxed, has_metrics=plan.wants_voip_metrics)
    return plan, answer


def _plan(
    description: SessionDescription,
    media: MediaDescription,
    *,
    codec: str,
    send: int,
    receive: int,
    send_digit: int | None,
    receive_digit: int | None,
    receive_noise: int | None,
    is_holding: bool,
    may_mux: bool,
    keys: crypto.Keys | None,
) -> MediaPlan:
    connection = media.connection or description.connection
    if connection is None:
        raise RemoteProtocolError("the audio has no c= line", 488)
    try:
        address = ipaddress.ip_address(connection.address)
    except ValueError:
        raise RemoteProtocolError("the connection address is not an IP address", 488) from None
    if address.is_multicast or "%" in connection.address:
        raise RemoteProtocolError("the connection address is not a unicast address", 488)
    # RFC 3264 section 5.1: a media level attribute overrides the session's; without any it is sendrecv. Theirs is the
    # mirror of ours.
    direction = media.direction or description.direction or "sendrecv"
    ptime = number(media.attribute("ptime") or "", 1000)
    maxptime = number(media.attribute("maxptime") or "", 1000)
    control_host, control_port = _control_address(media, str(address))
    numbers = (send, receive, send_digit, receive_digit, receive_noise)
    served = codec_named(codec)
    assert served is not None  # it was chosen from those that are
    return MediaPlan(
        remote_host=str(address),
        remote_port=media.port,
        codec=codec,
        send_payload_type=send,
        receive_payload_type=receive,
        send_digit_payload_type=send_digit,
        receive_digit_payload_type=receive_digit,
        ptime_ms=ptime or 20,
        maxptime_ms=maxptime or None,
        # RFC 3264 section 8.4: the address 0.0.0.0 is the hold of RFC 2543: "neither RTP nor RTCP should be sent to
        # the peer".
        may_send=direction in ("sendrecv", "recvonly") and not address.is_unspecified,
        may_receive=direction in ("sendrecv", "sendonly") and not is_holding,
        control_host=control_host,
        control_port=control_port,
        is_muxed=may_mux
        and media.attribute("rtcp-mux") is not None
        and not any(each in RTCP_TYPES for each in numbers if each is not None),
        wants_voip_metrics=_wants_voip_metrics(description, media),
        clock_hz=served.clock_hz,
        parameters=media.payload_attribute("fmtp", str(send)) or "",
        receive_noise_payload_type=receive_noise,
        keys=keys,
    )


def _noise_of(codec: str) -> tuple[str, int] | None:
    """The comfort noise that goes with a codec (RFC 3389 section 4), as far as we serve it: at 8 kHz, beside codecs
    without a memory."""
    served = codec_named(codec)
    return (NOISE, served.clock_hz) if served is not None and served.decode is not None else None


def _control_address(media: MediaDescription, host: str) -> tuple[str, int]:
    """What ``a=rtcp`` says (RFC 3605 section 2.1), as far as it can be used: a port, and perhaps an address in the
    family of the RTP's."""
    words = (media.attribute("rtcp") or "").split()
    port = number(words[0], 65535) if words else None
    if not port:
        return "", 0
    if len(words) == 1:
        return "", port
    try:
        address = ipaddress.ip_address(words[-1])
    except ValueError:
        return "", 0
    is_usable = (
        len(words) == 4
        and "%" not in words[-1]
        and not address.is_multicast
        and not address.is_unspecified
        and (address.version == 6) == (":" in host)
    )
    return (str(address), port) if is_usable else ("", 0)


def _wants_voip_metrics(description: SessionDescription, media: MediaDescription) -> bool:
    """``a=rtcp-xr`` at media level, or else at the session's, with voip-metrics in its list (RFC 3611 section 5.1)."""
    formats = media.attribute("rtcp-xr")
    if formats is None:
        formats = next((value for name, value in description.attributes if name == "rtcp-xr"), None)
    return any(form.split("=")[0] == "voip-metrics" for form in (formats or "").split())


def _audio(
    local: LocalMedia,
    formats: list[Format],
    direction: str,
    lines: list[crypto.Crypto],
    *,
    is_muxed: bool = False,
    has_metrics: bool = False,
) -> MediaDescription:
    attributes: list[tuple[str, str | None]] = [("crypto", line.line()) for line in lines]
    for payload_type, encoding in formats:
        attributes.append(("rtpmap", f"{payload_type} {rtpmap_of(encoding)}"))
        parameters = parameters_of(encoding)
        if parameters:
            attributes.append(("fmtp", f"{payload_type} {parameters}"))
    attributes.append(("ptime", str(local.ptime_ms)))
    if is_muxed:
        attributes.append(("rtcp-mux", None))
    if has_metrics:
        attributes.append(("rtcp-xr", "voip-metrics"))
    attributes.append((direction, None))
    fixed: Attributes = tuple(attributes)
    protocol = crypto.SECURE if lines else PROTOCOL
    return MediaDescription("audio", local.port, protocol, tuple(str(form) for form, _ in formats), None, fixed)


def _describe(local: LocalMedia, media: tuple[MediaDescription, ...]) -> SessionDescription:
    kind = address_type(local.host)
    return SessionDescription(
        origin=Origin(local.session_id, local.session_version, local.host, "-", kind),
        media=media,
        name="agentstream",
        connection=Connection(local.host, kind),
    )
