"""The configuration as values: one attrs class a section, each field with its documentation, unit and range.

Pure: no files, no sockets. :mod:`agentstream.config.structure` fills these classes from what a TOML file says,
:mod:`agentstream.flow.loader` reads the files, docs/config.md is generated from the metadata here.
"""
# ruff: noqa: RUF009 - setting() makes an attrs field, and defaults are immutable

from __future__ import annotations

import fnmatch
import functools
import ipaddress
from pathlib import Path

import attrs

from agentstream.config.addresses import (
    Listener,
    Network,
    PortRange,
    expect_address,
    expect_address_or_empty,
    expect_aor,
    expect_country_code,
    expect_http_listener,
    expect_listener,
    expect_name,
    expect_secret,
    expect_server,
    expect_target,
    expect_time_zone,
    expect_v6_or_empty,
    first_of_family,
    is_address,
    is_everywhere,
)
from agentstream.config.metadata import setting

STYLES = ("auto", "as_received", "e164", "national")
"""How numbers can be written; see :class:`agentstream.wire.numbering.Numbering`."""

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


@attrs.frozen
class Node:
    """This process."""

    name: str = setting(
        default="",
        doc="The name of this process in records, metrics and logs. Empty: the host name.",
        example='"node1"',
        check=lambda text: expect_name(text) if text else "",
    )
    drain_s: int = setting(
        default=60,
        doc="How long live calls may go on after SIGTERM while new ones are refused; a second signal hangs up now.",
        unit="s",
        range=(0, 86400),
    )


@attrs.frozen
class Account:
    """Whose calls these are."""

    sid: str = setting(
        default="agentstream",
        doc="`account_sid` in what bots receive.",
        check=expect_name,
    )
    time_zone: str = setting(
        default="Asia/Kolkata",
        doc="The time zone of local times in what other systems are told, by its name in the IANA database.",
        example='"Europe/Berlin"',
        check=expect_time_zone,
    )
    numbering: str = setting(
        default="auto",
        doc="How bots are told numbers: as the phone or carrier wrote them (`as_received`), as `+919876543210`"
        " (`e164`), or as `09876543210` with numbers of other countries in E.164 (`national`). `auto` is `as_received`"
        " without a `country_code`, `national` for India (91) and `e164` for any other country.",
        choices=STYLES,
    )
    country_code: str = setting(
        default="",
        doc="The country calling code of numbers without one, in digits.",
        example='"91"',
        check=expect_country_code,
    )
    number_length: int = setting(
        default=10,
        doc="Digits of a number inside the country; only such a number gets the `country_code` when neither `+` nor `0`"
        " stands before it.",
        range=(4, 14),
    )


@attrs.frozen
class Sip:
    """Where phones and carriers reach this node."""

    listen: tuple[str, ...] = setting(
        example='["udp:5060:interface=10.0.0.7", "tls:5061:interface=10.0.0.7:advertise=sip.example.com"]',
        default=("udp:5060:interface=127.0.0.1",),
        doc="Where SIP is listened for, over UDP (`udp:`), TCP (`tcp:`) and TLS (`tls:`, with `[tls]`). Without"
        " `interface=`, on every IPv4 address of the machine. `advertise=`, an address or a name, is what Via and"
        " Contact of this listener say.",
        least=1,
        check=expect_listener,
    )
    advertise: str = setting(
        default="",
        doc="The address in Via, Contact and SDP, as others can reach it, for the listeners of its family that say none"
        " themselves. Empty: each listener's interface.",
        example='"203.0.113.7"',
        check=expect_address_or_empty,
    )
    advertise_v6: str = setting(
        default="",
        doc="The same for IPv6 listeners, where `advertise` is an IPv4 address.",
        example='"2001:db8::7"',
        check=expect_v6_or_empty,
    )
    max_connections: int = setting(
        default=500,
        doc="TCP and TLS connections at once; a quarter of them may come from addresses of no trunk.",
        range=(8, 10000),
    )
    max_connections_per_host: int = setting(
        default=100,
        doc="TCP and TLS connections at once from one address.",
        range=(1, 10000),
    )
    session_expires_s: int = setting(
        default=1800,
        doc="How long a call may last before one side shows the other that it is still there (session timer, RFC 4028),"
        " where the phone knows of that and asks for no interval of its own; 0 for never.",
        unit="s",
        range=(0, 86400),
        check=lambda seconds: "" if not seconds or seconds >= 90 else "0, or 90 and more",
    )
    min_session_expires_s: int = setting(
        default=90,
        doc="The shortest such interval that a phone may ask for; a shorter one is answered 422.",
        unit="s",
        range=(90, 7200),
    )
    trace: bool = setting(
        default=False,
        doc="Write every SIP message to `trace_file`, with credentials, passwords and keys masked: to look for a fault,"
        " not for ever.",
    )
    trace_file: Path = setting(
        default=Path("sip-trace.log"),
        doc="That file; only the user that the server runs as can read it.",
    )
    trace_mb: int = setting(
        default=10,
        doc="After so much a new file begins; the one before it is kept beside it, with `.1` behind its name.",
        unit="MiB",
        range=(1, 1024),
    )

    def advertised(self, *, is_v6: bool) -> str:
        """The address of this family that others are told; "" where none is set."""
        return first_of_family((self.advertise, self.advertise_v6), is_v6=is_v6)

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """``listen``, parsed."""
        return tuple(Listener.parse(text) for text in self.listen)

    @property
    def addresses(self) -> tuple[str, ...]:
        """The IP addresses that single listeners tell others, or are bound on."""
        told = (at.advertise if is_address(at.advertise) else at.interface for at in self.listeners)
        return tuple(address for address in told if address and not is_everywhere(address))


@attrs.frozen
class Tls:
    """SIP over TLS 1.2 and 1.3. Files that change are used from the next connection on, without a restart."""

    certificate: Path | None = setting(
        default=None,
        doc="Our certificate and behind it those between it and its authority (PEM): what `tls:` listeners show, and"
        " our own connections where they are asked.",
        example='"fullchain.pem"',
        file="certificates",
    )
    key: Path | None = setting(
        default=None,
        doc="Its private key (PEM, without a passphrase).",
        example='"privkey.pem"',
        file="any",
    )
    ca_file: Path | None = setting(
        default=None,
        doc="Certificates (PEM) to trust where we connect to others, instead of the system's. They must be for the name"
        " or the address that we call, too.",
        example='"ca.pem"',
        file="certificates",
    )
    client_ca_file: Path | None = setting(
        default=None,
        doc="Who connects to us must show a certificate that one of these (PEM) has signed. Empty: nobody is asked.",
        example='"clients.pem"',
        file="certificates",
    )


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
        doc="Calls at once; the next one is answered 503.",
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


@attrs.frozen
class Stream:
    """Defaults of the WebSocket sessions to bots."""

    chunk_ms: int = setting(
        default=100,
        doc="How much of the caller's sound goes into one `media` message, unless a step says otherwise.",
        unit="ms",
        range=(20, 200),
        multiple=20,
    )
    ca_file: Path | None = setting(
        default=None,
        doc="Certificates (PEM) to trust for `wss` bots instead of the system's, unless a step says otherwise.",
        example='"ca.pem"',
        file="certificates",
    )
    max_s: int = setting(
        default=3600,
        doc="After this time a stream is stopped and its step ends as usual, unless a step says otherwise.",
        unit="s",
        range=(1, 86400),
    )
    allow_private: bool = setting(
        default=False,
        doc="Whether a bot's URL, or a redirect, that comes from an HTTP answer may lead to loopback, link-local,"
        " private and other addresses that are not public. URLs in flow files may always.",
    )
    counters: str = setting(
        default="string",
        doc="How `sequence_number` and `chunk` are written, unless a step says otherwise.",
        choices=("string", "number"),
    )
    keys: str = setting(
        default="snake",
        doc="How keys are written, unless a step says otherwise: `both` adds the camelCase name beside each snake_case"
        " name. Some bots then take the stream for another provider's.",
        choices=("snake", "both"),
    )
    codec: str = setting(
        default="pcm16",
        doc="What a payload is, both ways, unless a step says otherwise: 16-bit samples, or mu-law, which has 8000 Hz.",
        choices=("pcm16", "mulaw"),
    )
    encoding: str = setting(
        default="",
        doc="What `media_format.encoding` says, unless a step says otherwise; it changes nothing in the sound. Empty:"
        " `base64`, and with mu-law `audio/x-mulaw`.",
        example='"audio/x-raw"',
        check=lambda text: expect_name(text) if text else "",
    )
    bit_rate: str = setting(
        default="",
        doc="What `media_format.bit_rate` says, unless a step says otherwise. Empty: `128kbps`, and with mu-law"
        " `64kbps`.",
        example='"16"',
        check=lambda text: expect_name(text) if text else "",
    )


@attrs.frozen
class Recording:
    """Files of what is said on recorded calls: steps with ``record = true`` and the applet ``record`` make them."""

    folder: Path = setting(
        default=Path("recordings"),
        doc="Where the files are, in a folder for each day (UTC). It is made when it is needed.",
    )
    format: str = setting(
        default="wav",
        doc="What a recording is when it is done. While the call is up it is always WAV, under a name that ends in"
        " `.wav.part`; what a crash has left under such a name is finished at the next start.",
        choices=("wav", "flac", "opus", "mp3"),
    )
    channels: str = setting(
        default="stereo",
        doc="`stereo`: the caller left, what the caller is played right. `mono`: both in one channel.",
        choices=("stereo", "mono"),
    )


@attrs.frozen
class Access:
    """Who belongs here, what becomes of the others, and how much at once."""

    realm: str = setting(
        default="agentstream",
        doc="What phones and trunks are told that their password is for (digest).",
        check=expect_name,
    )
    strangers: str = setting(
        default="refuse",
        doc="What becomes of requests from no trunk's address, without credentials: `refuse` answers 403, or 401 where"
        " credentials would help; `ignore` answers nothing, but for 401 to a user that there is.",
        choices=("refuse", "ignore"),
    )
    ban_after: int = setting(
        default=20,
        doc="After so many refused requests in a minute from one address all that it sends is ignored for a while, and"
        " the log says so in the line that etc/fail2ban matches. Addresses of trunks, of calls that are up and of"
        " registered phones are never ignored. 0: nobody is.",
        range=(0, 10000),
    )
    ban_s: int = setting(
        default=300,
        doc="How long, over TCP. Over UDP, where anybody can write any address, it is 60 s at most.",
        unit="s",
        range=(1, 86400),
    )
    calls_per_second: float = setting(
        default=0.0,
        doc="New calls of all trunks together a second; what is above is answered 503. 0: as many as come.",
        range=(0.0, 10000.0),
    )
    source_calls: int = setting(
        default=0,
        doc="Calls at once from one address; the next one is answered 486. 0: as many as come.",
        range=(0, 10000),
    )
    source_calls_per_second: float = setting(
        default=0.0,
        doc="New calls from one address a second; what is above is answered 503. 0: as many as come.",
        range=(0.0, 10000.0),
    )
    reserved_calls: int = setting(
        default=0,
        doc="How many of `media.max_calls` are kept free for calls that we make.",
        range=(0, 10000),
    )


@attrs.frozen
class Http:
    """Metrics and health for whoever watches this node."""

    listen: str = setting(
        default="",
        doc="Where `/metrics`, `/healthz` and `/readyz` are served; there is no password. Empty: nowhere.",
        example='"tcp:8080:interface=127.0.0.1"',
        check=expect_http_listener,
    )


@attrs.frozen
class Flows:
    """Where the flow files are."""

    path: tuple[Path, ...] = setting(
        default=(Path("flows"),),
        doc="Folders of flow files: every `*.toml` in and below them is one flow.",
        least=1,
        folder=True,
    )


@attrs.frozen
class Applets:
    """Where drop-in applets are."""

    path: tuple[Path, ...] = setting(
        default=(),
        doc="More folders of drop-in applets, besides the package `applets`.",
        example='["my_applets"]',
        folder=True,
    )


@attrs.frozen
class Trunk:
    """A SIP peer that may call."""

    name: str = setting(doc="What records and logs call it.", example='"carrier"', check=expect_name)
    address: tuple[Network, ...] = setting(
        default=(),
        doc="The addresses and networks, IPv4 or IPv6, that its requests come from. The first trunk that matches wins."
        " None of them is ever ignored.",
        example='["203.0.113.0/24", "2001:db8::/32"]',
    )
    known_by: str = setting(
        default="address",
        doc="How we know that a request is this trunk's: by where it comes from (`address`), by `user` and `password`"
        " from anywhere (`digest`), by one of the two (`either`), or only by `both`.",
        choices=("address", "digest", "either", "both"),
    )
    user: str = setting(
        default="",
        doc="The name that goes with `password` (digest, RFC 7616), theirs to us and ours to them.",
        example='"agentstream"',
        check=lambda text: expect_name(text) if text else "",
    )
    password: str = setting(
        default="",
        doc="The password itself, `file:PATH` for the first line of a file, or `env:NAME` for an environment variable."
        " No log and no message shows it.",
        example='"file:carrier.secret"',
        secret=True,
        check=expect_secret,
    )
    server: str = setting(
        default="",
        doc="Where calls of ours to this trunk go: a `sip:` or `sips:` URI. A name leads to as many servers as its"
        " domain has (RFC 3263), each of which is tried where the one before fails. Empty: we do not call it.",
        example='"sip:carrier.example.com"',
        check=lambda text: expect_server(text) if text else "",
    )
    max_calls: int = setting(
        default=0,
        doc="Calls of this trunk at once; the next one is answered 486. 0: as many as the node takes.",
        range=(0, 10000),
    )
    calls_per_second: float = setting(
        default=0.0,
        doc="New calls of this trunk a second; what is above is answered 503. 0: as many as come.",
        range=(0.0, 10000.0),
    )
    register_at: tuple[str, ...] = setting(
        default=(),
        doc="Its registrars, where it wants us to register: each is tried where the one before does not serve us.",
        example='["sip:203.0.113.5", "sip:203.0.113.6:5060;transport=tcp"]',
        check=expect_target,
    )
    address_of_record: str = setting(
        default="",
        doc="The address-of-record that we register. Empty: `user` at the first registrar.",
        example='"sip:4930123456@carrier.example.com"',
        check=lambda text: expect_aor(text) if text else "",
    )
    register_expires_s: int = setting(
        default=3600,
        doc="How long a registration is asked to last; it is refreshed before what the registrar grants is over.",
        unit="s",
        range=(60, 86400),
    )
    nat: str = setting(
        default="host",
        doc="Whose RTP is heard: only the SDP's address (`strict`), any port of the host that the SDP or the signalling"
        " names (`host`), or anybody after 5 packets in sequence (`any`).",
        choices=("strict", "host", "any"),
    )
    digits: str = setting(
        default="rtp",
        doc="How digits are sent to it: as telephone-events, or as tones where those were not agreed on (`rtp`), or by"
        " SIP INFO (`info`). Both are heard.",
        choices=("rtp", "info"),
    )

    @property
    def is_known_by_address(self) -> bool:
        """Its address is enough."""
        return self.known_by in ("address", "either")

    @property
    def is_known_by_digest(self) -> bool:
        """Its user and password let it in, from its addresses or from anywhere."""
        return self.known_by != "address"

    def is_from(self, host: str) -> bool:
        """This address belongs to the trunk; False for what is no IP address."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address.version == network.version and address in network for network in self.address)


@attrs.frozen
class Route:
    """Which flow a call gets."""

    to: str = setting(
        doc="A glob (`*`, `?`, `[...]`) on the user part of the Request-URI; case matters. The first match wins.",
        example='"1000"',
        check=expect_name,
    )
    flow: str = setting(doc="The name of a flow.", example='"support"', check=expect_name)

    def is_for(self, user: str) -> bool:
        """This user part is routed here."""
        return fnmatch.fnmatchcase(user, self.to)


@attrs.frozen
class Registrar:
    """Where the phones below `[[phone]]` register."""

    file: Path = setting(
        default=Path("phones.db"),
        doc="Where registrations are kept, so that a restart loses none (SQLite). It is made when there are phones.",
    )
    min_expires_s: int = setting(
        default=60,
        doc="A phone that wants to register for less is answered 423.",
        unit="s",
        range=(10, 3600),
    )
    max_expires_s: int = setting(
        default=3600,
        doc="A phone that wants to register for more gets this.",
        unit="s",
        range=(60, 86400),
    )
    max_contacts: int = setting(
        default=10,
        doc="Contacts of one phone; with one more, the oldest is forgotten.",
        range=(1, 100),
    )
    ping_s: float = setting(
        default=25.0,
        doc="How often an empty message goes to each phone, so that the NAT in front of it keeps the way open; 0 for"
        " never.",
        unit="s",
        range=(0.0, 3600.0),
    )


@attrs.frozen
class Phone:
    """A phone that may register and call."""

    user: str = setting(doc="Its user, which is what it is called by, too.", example='"alice"', check=expect_name)
    password: str = setting(
        doc="Its password (digest), `file:PATH` for the first line of a file, or `env:NAME` for an environment"
        " variable. No log and no message shows it.",
        example='"file:alice.secret"',
        secret=True,
        check=lambda text: expect_secret(text) or ("" if text else expect_secret("file:")),
    )


LOOPBACK_TRUNK = Trunk(name="loopback", address=LOOPBACK, nat="host")


@attrs.frozen
class Config:
    """Everything that one node is told."""

    node: Node = setting(factory=Node, doc="This process.")
    account: Account = setting(factory=Account, doc="Whose calls these are.")
    sip: Sip = setting(factory=Sip, doc="Where phones and carriers reach this node.")
    tls: Tls = setting(factory=Tls, doc="SIP over TLS.")
    media: Media = setting(factory=Media, doc="RTP: sound between this node and the phones.")
    stream: Stream = setting(factory=Stream, doc="Defaults of the WebSocket sessions to bots.")
    recording: Recording = setting(factory=Recording, doc="Files of what is said on recorded calls.")
    access: Access = setting(
        factory=Access, doc="Who belongs here, what becomes of the others, and how many calls there may be."
    )
    http: Http = setting(factory=Http, doc="Metrics and health for whoever watches this node.")
    flows: Flows = setting(factory=Flows, doc="Where the flow files are.")
    applets: Applets = setting(factory=Applets, doc="Where drop-in applets are.")
    trunk: tuple[Trunk, ...] = setting(
        default=(),
        doc="SIP peers that may call. With none at all, loopback may call and nobody else.",
    )
    registrar: Registrar = setting(factory=Registrar, doc="Where the phones below `[[phone]]` register.")
    phone: tuple[Phone, ...] = setting(
        default=(),
        doc="Phones that may register, and call from wherever they are.",
    )
    route: tuple[Route, ...] = setting(
        default=(),
        doc="Which flow a call gets; the first match wins, and a call that matches none is answered 404.",
    )

    @property
    def trunks(self) -> tuple[Trunk, ...]:
        """Who may call: the configured trunks, or loopback where there is none."""
        return self.trunk or (LOOPBACK_TRUNK,)

    def trunk_of(self, host: str) -> Trunk | None:
        """The first trunk that this source address is enough for; None has to say more, or may not call."""
        return next((trunk for trunk in self.trunks if trunk.is_known_by_address and trunk.is_from(host)), None)

    def is_trunk_address(self, host: str) -> bool:
        """Any trunk has this address, be it enough or not."""
        return any(trunk.is_from(host) for trunk in self.trunks)

    @functools.cached_property
    def trunks_by_user(self) -> dict[str, Trunk]:
        """The trunks that are recognised by their credentials, by user."""
        return {trunk.user: trunk for trunk in self.trunk if trunk.is_known_by_digest and trunk.user}

    @functools.cached_property
    def phones_by_user(self) -> dict[str, Phone]:
        """The phones."""
        return {phone.user: phone for phone in self.phone}

    def route_of(self, user: str) -> Route | None:
        """The first route for this user part of a Request-URI."""
        return next((route for route in self.route if route.is_for(user)), None)

    @property
    def sip_address(self) -> str:
        """The address for Via, Contact and SDP."""
        return self.sip.advertise or next(iter(self.sip.addresses), "")

    def media_address(self, *, is_v6: bool) -> str:
        """The address of RTP in the SDP of calls over this IP family; "" where no RTP is bound in it."""
        media, sip = self.media, self.sip
        bound = first_of_family((media.listen, media.listen_v6), is_v6=is_v6)
        if not bound:
            return ""
        told = (media.advertise, media.advertise_v6, sip.advertise, sip.advertise_v6, *sip.addresses)
        return first_of_family(told, is_v6=is_v6) or bound


# The annotations are text until here; whoever walks the fields needs the types.
for _class in (
    Node,
    Account,
    Sip,
    Tls,
    Media,
    Stream,
    Recording,
    Access,
    Http,
    Flows,
    Applets,
    Trunk,
    Registrar,
    Phone,
    Route,
    Config,
):
    attrs.resolve_types(_class)
