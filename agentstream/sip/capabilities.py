"""What we can: the methods, extensions and bodies that Allow, Supported and Accept name, and the look at each request
that asks for more (RFC 3261 sections 8.2.1 to 8.2.3 and 11).
"""

from __future__ import annotations

from agentstream.errors import RemoteProtocolError
from agentstream.sip.message import PHRASES, Request
from agentstream.sip.replaces import read_replaces

METHODS = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "UPDATE", "PRACK", "INFO", "NOTIFY")
"""What is served, as Allow says; REFER as well, in the calls of who may."""
KNOWN_METHODS = frozenset(("REGISTER", "SUBSCRIBE", "PUBLISH", "REFER", "MESSAGE", *METHODS))
"""What the registry of RFC 3261 and its extensions names: 405 where it is not served; other methods get 501."""
EXTENSIONS = frozenset(("timer", "100rel"))
"""Option tags that a Require may name."""
FURTHER_EXTENSIONS = {"INVITE": frozenset(("replaces",)), "REFER": frozenset(("norefersub",))}
"""Those that only this method's may."""
SUPPORTED = ", ".join(sorted(EXTENSIONS))
SCHEMES = frozenset(("sip", "sips", "tel"))
BODY_TYPES = "application/sdp, multipart/mixed"

ALLOW = ", ".join(METHODS)
Refusal = tuple[int, str, list[tuple[str, str]]]
OPTIONS_FIELDS = (
    ("Accept", BODY_TYPES),
    ("Accept-Encoding", "identity"),
    ("Accept-Language", "en"),
    ("Supported", SUPPORTED),
)
"""RFC 3261 section 11.2: what a 200 to OPTIONS says beside Allow."""


def inspect(request: Request, *, is_registrar: bool = False) -> Refusal | None:
    """What RFC 3261 section 8.2 has against a request: method, Request-URI, Require, body, in this order.

    Status, sentence and the headers that help; None where nothing is wrong. A header that cannot be read is 400.
    """
    try:
        return _inspect(request, is_registrar)
    except RemoteProtocolError as error:
        return error.status, error.sentence, []


def _inspect(request: Request, is_registrar: bool) -> Refusal | None:
    method = request.method
    headers = request.headers
    if method == "REFER" and not request.to.tag:
        # Whom we call is for the flow to say, and not for whoever can send us a request.
        return 603, "we are not transferred by others", []
    is_register = is_registrar and method == "REGISTER"
    if method not in METHODS and method != "REFER" and not is_register:
        if method not in KNOWN_METHODS:
            return 501, "this method is not known", [("Allow", ALLOW)]
        # 8.2.1: "The UAS MUST also add an Allow header field to the 405 (Method Not Allowed) response."
        return 405, "this method is not served", [("Allow", ALLOW)]
    if request.uri.scheme not in SCHEMES:
        return 416, "the Request-URI is neither sip, sips nor tel", []
    # RFC 3327: the proxy in front of a phone may require that its Path is kept.
    known = {*EXTENSIONS, "path"} if is_register else EXTENSIONS | FURTHER_EXTENSIONS.get(method, frozenset())
    unsupported = [tag for tag in headers.values_of("require") if tag.lower() not in known]
    if unsupported:
        # 8.2.2.3: "the UAS MUST respond with status code 420 ... and list in it those options it does not
        # understand in Unsupported."
        return 420, "an extension in Require is not supported", [("Unsupported", ", ".join(unsupported))]
    if "replaces" in headers:
        # RFC 3891 section 3: in a request other than INVITE it is 400; one in a dialog is in a call already.
        if method != "INVITE" or request.to.tag:
            return 400, "Replaces belongs to an INVITE that begins a call", []
        read_replaces(headers)
    if request.body and method == "INVITE":
        encodings = headers.tokens_of("content-encoding")
        if any(encoding != "identity" for encoding in encodings):
            return 415, "the body's encoding is not supported", [("Accept-Encoding", "identity")]
        if not request.sdp and not request.is_body_optional:
            return 415, "the body is not a session description", [("Accept", BODY_TYPES)]
    if method == "INVITE" and "accept" in headers:
        accepted = headers.tokens_of("accept")
        # 20.1: "If an empty Accept header field is present, it means that no formats are acceptable."
        if not {"application/sdp", "application/*", "*/*"}.intersection(accepted):
            return 406, "the answer would be a session description, which Accept does not name", []
    return None


def label(method: str) -> str:
    """A method for a counter's name: only known ones, so that nobody can make counters."""
    return method if method in KNOWN_METHODS else "other"


def answer_label(method: str, status: int) -> str:
    """The same for a response: its method, and its status or, where the registry does not name that, its class."""
    return f"{label(method)} {status if status in PHRASES else f'{status // 100}xx'}"
