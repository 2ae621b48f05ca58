"""Offer and answer (RFC 3264) for one audio stream of PCMU or PCMA with telephone-event (RFC 4733).

Payload types are the other side's to choose: what we send carries the numbers of its description, what we receive
those of ours.
"""

from __future__ import annotations

import ipaddress

import attrs

from agentstream.errors import LocalProtocolError, RemoteProtocolError
from agentstream.sdp.description import (
    Attributes,
    Connection,
    MediaDescription,
    Origin,
    SessionDescription,
    address_type,
    number,
)

STATIC = {"0": "PCMU", "8": "PCMA"}
"""Payload types that need no rtpmap (RFC 3551 section 6), as far as we serve them."""
STATIC_NUMBERS = {"PCMU": 0, "PCMA": 8}
CLOCK_HZ = 8000
PROTOCOL = "RTP/AVP"
UNSPECIFIED = ("0.0.0.0", "::")


@attrs.frozen
class LocalMedia:
    """Our side of one session.

    :ivar host: the address that the other side sends RTP to. :ivar port: its even RTP port.
    :ivar codecs: PCMU and PCMA, in the order in which we offer them; an answer follows the offer's order.
    :ivar session_id: of the ``o=`` line, the same for the whole call.
    :ivar session_version: of the first description; see :func:`revise` for the later ones.
    :ivar digit_payload_type: what an offer of ours gives telephone-event.
    :ivar is_holding: we hold the other side: what it says is not wanted (RFC 3264 section 8.4).
    """

    host: str
    port: int
    codecs: tuple[str, ...] = ("PCMU", "PCMA")
    session_id: int = 1
    session_version: int = 1
    ptime_ms: int = 20
    digit_payload_type: int = 101
    is_holding: bool = False

    def __attrs_post_init__(self) -> None:
        if not self.codecs or any(codec not in STATIC_NUMBERS for codec in self.codecs):
            raise LocalProtocolError("only PCMU and PCMA can be negotiated")


@attrs.frozen
class MediaPlan:
    """What offer and answer came to.

    :ivar remote_host: an IP address; for a stream on hold it may be ``0.0.0.0`` or ``::``.
    :ivar remote_port: 0 for a stream that is disabled: nothing is sent or heard until the next description.
    :ivar codec: ``PCMU`` or ``PCMA``.
    :ivar send_digit_payload_type: what telephone-events carry that we send; None when the other side takes none.
    :ivar ptime_ms: the packet time that the other side asks for, milliseconds; 20 where it does not say.
    :ivar may_send: false on hold (their sendonly or inactive, or the address 0.0.0.0).
    :ivar may_receive: false when they will not send (their recvonly or inactive), or when we hold them.
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


def make_offer(local: LocalMedia, before: SessionDescription | None = None) -> SessionDescription:
    """Our offer: every codec of ours and telephone-event.

    :param before: our last description of the same session. RFC 3264 section 8: its ``m=`` lines keep their places;
        those that were declined stay declined.
    """
    formats = [(STATIC_NUMBERS[codec], f"{codec}/{CLOCK_HZ}") for codec in local.codecs]
    formats.append((local.digit_payload_type, f"telephone-event/{CLOCK_HZ}"))
    audio = _audio(local, formats, "sendonly" if local.is_holding else "sendrecv")
    if before is None:
        return _describe(local, (audio,))
    place = _place_of_audio(before)
    media = [attrs.evolve(one, port=0, connection=None, attributes=()) for one in before.media]
    media[place : place + 1] = [audio]
    return _describe(local, tuple(media))


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

    The first ``m=`` line that we can serve is accepted, every other one declined with port 0. Raises
    RemoteProtocolError (488) with the reason where none can be served.

    :param now: what was agreed before. With it, an offer that sets the port of all audio to 0 is no refusal but ends
        the stream and not the session (RFC 3264 section 8.2).
    """
    answers: list[MediaDescription] = []
    plan: MediaPlan | None = None
    refusal: RemoteProtocolError | None = None
    for media in offer.media:
        if plan is None and media.kind == "audio":
            try:
                plan, answer = _accept(offer, media, local)
                answers.append(answer)
                continue
            except RemoteProtocolError as error:
                refusal = refusal or error
        # RFC 3264 section 6: "To reject an offered stream, the port number in the corresponding stream in the answer
        # MUST be set to zero. Any media formats listed are ignored. At least one MUST be present".
        answers.append(MediaDescription(media.kind, 0, media.protocol, media.formats))
    if plan is None and now is not None and _is_disabled(offer):
        plan = attrs.evolve(now, remote_port=0, may_send=False, may_receive=False)
    if plan is None:
        raise refusal or RemoteProtocolError("the offer has no audio", 488)
    return _describe(local, tuple(answers)), plan


def _is_disabled(offer: SessionDescription) -> bool:
    """It has audio, and none of it has a port."""
    ports = [media.port for media in offer.media if media.kind == "audio"]
    return bool(ports) and not any(ports)


def _place_of_audio(description: SessionDescription) -> int:
    """The number of our ``m=`` line: the audio that is live, else the first that there is; one more than there are
    where there is none."""
    places = [place for place, media in enumerate(description.media) if media.kind == "audio"]
    live = [place for place in places if description.media[place].port]
    return (live or places or [len(description.media)])[0]


def accept_answer(offer: SessionDescription, answer: SessionDescription) -> MediaPlan:
    """What the answer to our offer came to; raises RemoteProtocolError (488) where it cannot be used."""
    place = _place_of_audio(offer)
    ours = offer.media[place]
    if len(answer.media) != len(offer.media):
        # RFC 3264 section 6: "The answer MUST contain exactly the same number of m= lines as the offer".
        raise RemoteProtocolError("the answer has not as many media as the offer", 488)
    media = answer.media[place]
    if media.kind != "audio" or media.protocol.upper() != PROTOCOL:
        raise RemoteProtocolError("the answer to our audio is not audio over RTP/AVP", 488)
    if media.port == 0:
        raise RemoteProtocolError("the answer declines the audio", 488)
    offered = {_codec_of(ours, form): form for form in ours.formats}
    # A dynamic number without an rtpmap of its own means what it meant in the offer.
    pairs = [(form, _codec_of(media, form) or _codec_of(ours, form)) for form in media.formats]
    chosen = next(((form, codec) for form, codec in pairs if codec in STATIC_NUMBERS and codec in offered), None)
    if chosen is None:
        raise RemoteProtocolError("the answer names no audio codec of the offer", 488)
    digits = next((form for form, codec in pairs if codec == "telephone-event"), None)
    return _plan(
        answer,
        media,
        codec=str(chosen[1]),
        send=int(chosen[0]),
        receive=int(offered[chosen[1]]),
        send_digit=int(digits) if digits is not None else None,
        receive_digit=int(offered["telephone-event"]) if digits is not None else None,
        is_holding=ours.direction == "sendonly",
    )


def _accept(
    offer: SessionDescription, media: MediaDescription, local: LocalMedia
) -> tuple[MediaPlan, MediaDescription]:
    if media.port == 0:
        raise RemoteProtocolError("the offer's audio has port 0", 488)
    if media.protocol.upper() != PROTOCOL:
        raise RemoteProtocolError("only audio over RTP/AVP is served", 488)
    pairs = [(form, _codec_of(media, form)) for form in media.formats]
    # RFC 3264 section 6.1: "it is RECOMMENDED that the answerer ... list the formats in the same relative order they
    # were present in the offer".
    chosen = next(((form, codec) for form, codec in pairs if codec in local.codecs), None)
    if chosen is None or chosen[1] is None:
        raise RemoteProtocolError(f"the offer holds none of our audio codecs: {', '.join(local.codecs)}", 488)
    digits = next((form for form, codec in pairs if codec == "telephone-event"), None)
    number_of_digits = int(digits) if digits is not None else None
    # RFC 3264 section 6.1: the answerer uses the offer's numbers, so both directions carry the same ones.
    plan = _plan(
        offer,
        media,
        codec=chosen[1],
        send=int(chosen[0]),
        receive=int(chosen[0]),
        send_digit=number_of_digits,
        receive_digit=number_of_digits,
        is_holding=local.is_holding,
    )
    if plan.remote_host not in UNSPECIFIED and address_type(plan.remote_host) != address_type(local.host):
        raise RemoteProtocolError("the offer's connection address is of another IP family than ours", 488)
    formats = [(int(chosen[0]), f"{chosen[1]}/{CLOCK_HZ}")]
    if number_of_digits is not None:
        formats.append((number_of_digits, f"telephone-event/{CLOCK_HZ}"))
    direction = {
        (True, True): "sendrecv",
        (True, False): "sendonly",
        (False, True): "recvonly",
        (False, False): "inactive",
    }[(plan.may_send, plan.may_receive)]
    return plan, _audio(local, formats, direction)


def _plan(
    description: SessionDescription,
    media: MediaDescription,
    *,
    codec: str,
    send: int,
    receive: int,
    send_digit: int | None,
    receive_digit: int | None,
    is_holding: bool,
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
    )


def _codec_of(media: MediaDescription, form: str) -> str | None:
    """The encoding that a payload type of this ``m=`` line names, in capitals as RFC 3551 writes it, None for what we
    do not serve."""
    if number(form, 127) is None or form != str(int(form)):
        return None
    rtpmap = media.payload_attribute("rtpmap", form)
    if rtpmap is None:
        return STATIC.get(form)
    name, _, rest = rtpmap.partition("/")
    clock, _, channels = rest.partition("/")
    if clock.strip() != str(CLOCK_HZ) or channels.strip() not in ("", "1"):
        return None
    name = name.strip().upper()
    if name in STATIC_NUMBERS:
        return name
    return "telephone-event" if name == "TELEPHONE-EVENT" else None


def _audio(local: LocalMedia, formats: list[tuple[int, str]], direction: str) -> MediaDescription:
    attributes: list[tuple[str, str | None]] = []
    for payload_type, encoding in formats:
        attributes.append(("rtpmap", f"{payload_type} {encoding}"))
        if encoding.startswith("telephone-event"):
            # RFC 4733 section 2.5.1.1: what we can receive: 0-9, *, #, A-D.
            attributes.append(("fmtp", f"{payload_type} 0-15"))
    attributes.append(("ptime", str(local.ptime_ms)))
    attributes.append((direction, None))
    fixed: Attributes = tuple(attributes)
    return MediaDescription("audio", local.port, PROTOCOL, tuple(str(form) for form, _ in formats), None, fixed)


def _describe(local: LocalMedia, media: tuple[MediaDescription, ...]) -> SessionDescription:
    kind = address_type(local.host)
    return SessionDescription(
        origin=Origin(local.session_id, local.session_version, local.host, "-", kind),
        media=media,
        name="agentstream",
        connection=Connection(local.host, kind),
    )
