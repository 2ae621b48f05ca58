"""The configuration as one value: :class:`Config` has a field for each section of the file.

The sections are attrs classes in the modules beside this one; each field of theirs has its documentation, unit and
range. Pure: no files, no sockets. :mod:`agentstream.config.document` fills the classes from what a TOML file says,
:mod:`agentstream.flow.loader` reads the files, docs/config.md is generated from the metadata.
"""
# ruff: noqa: RUF009 - setting() makes an attrs field, and defaults are immutable

from __future__ import annotations

import functools
import typing

import attrs

from agentstream.config.access import LOOPBACK_TRUNK, Access, Trunk
from agentstream.config.addresses import first_of_family
from agentstream.config.media import Media
from agentstream.config.metadata import setting
from agentstream.config.node import Account, Applets, Flows, Http, Node
from agentstream.config.phones import Phone, Registrar
from agentstream.config.routes import Route
from agentstream.config.sip import Sip, Tls
from agentstream.config.streams import Recording, Stream


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
        doc="SIP peers that may call. With neither a trunk nor a phone, loopback may call and nobody else.",
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
        """Who may call by address: the configured trunks, or loopback where nobody at all is configured."""
        return self.trunk or (() if self.phone else (LOOPBACK_TRUNK,))

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

    def trunk_to(self, number: str) -> Trunk | None:
        """The first trunk that this number is called by."""
        return next((trunk for trunk in self.trunk if trunk.reaches(number)), None)

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
attrs.resolve_types(Config)
for _field in attrs.fields(Config):
    attrs.resolve_types((*typing.get_args(_field.type), _field.type)[0])
