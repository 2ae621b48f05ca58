"""The phones of a node: its registrar, with bindings that outlive a restart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from agentstream.config.model import Config
from agentstream.flow.bindings_file import BindingsFile, rows_of
from agentstream.flow.recordings import InThread
from agentstream.net.edge import SipEdge
from agentstream.sip.events import BindingsChanged, ContactChanged
from agentstream.sip.grammar import format_host, printable
from agentstream.sip.registrar import Binding, Registrar, RegistrarSettings

SAVE_S = 1.0
"""Changes are collected for so long."""


@attrs.define
class Phones:
    """Everything about phones that register here.

    :ivar config: the present one. :ivar wall_clock: seconds since 1970.
    """

    clock: IReactorTime
    edge: SipEdge
    config: Callable[[], Config]
    in_thread: InThread
    wall_clock: Callable[[], float]
    registrar: Registrar = attrs.field(init=False)
    _file: BindingsFile = attrs.field(init=False)
    _changed: set[str] = attrs.Factory(set)
    _saving: IDelayedCall | None = None

    log = Logger()

    def start(self) -> None:
        """Take up what was registered before; raises StartError."""
        self._file = BindingsFile(self.config().registrar.file)
        kept = self._file.load(self._offset_s)
        self.registrar = self.edge.stack.serve_phones(self._settings)
        users = self.config().phones_by_user
        self.registrar.restore([one for one in kept if one.user in users], self.clock.seconds())

    def bindings(self, user: str) -> list[Binding]:
        """Where this phone is now, the newest first; a phone that the config has no more is nowhere."""
        if user not in self.config().phones_by_user:
            return []
        return self.registrar.bindings(user, self.clock.seconds())

    def changed(self, event: BindingsChanged) -> None:
        """Keep it, and tell the log."""
        self._changed.add(event.user)
        if self._saving is None:
            self._saving = self.clock.callLater(SAVE_S, self._save)
        self.log.info(
            "phone {user} has {contacts} contacts, by {source} over {transport}",
            user=printable(event.user),
            contacts=event.contacts,
            source=f"{format_host(event.source.host)}:{event.source.port}",
            transport=event.source.transport.upper(),
        )

    def checked(self, event: ContactChanged) -> None:
        """Tell the log that a contact answers pings again, or does not."""
        where = f"{format_host(event.hop.host)}:{event.hop.port}"
        tell = self.log.info if event.is_up else self.log.warn
        tell(
            "a contact of phone {user} at {source} {answers} ({reason})",
            user=printable(event.user),
            source=where,
            answers="answers our pings" if event.is_up else "leaves our pings unanswered",
            reason=printable(event.reason),
        )

    def stop(self) -> Deferred[Any]:
        """Write what is not written yet, and close the file."""
        if self._saving is not None:
            self._saving.cancel()
        self._save()
        return self.in_thread(self._file.close)

    @property
    def _offset_s(self) -> float:
        return self.wall_clock() - self.clock.seconds()

    def _settings(self) -> RegistrarSettings:
        wanted = self.config().registrar
        return RegistrarSettings(
            wanted.min_expires_s, wanted.max_expires_s, wanted.max_contacts, wanted.ping_s, wanted.keepalive
        )

    def _save(self) -> Deferred[Any]:
        self._saving = None
        changed, self._changed = self._changed, set()
        if not changed:
            return succeed(None)
        now, offset_s = self.clock.seconds(), self._offset_s
        rows = {user: rows_of(self.registrar.bindings(user, now)[::-1], offset_s) for user in changed}
        saved = self.in_thread(lambda: self._file.save(rows))
        return saved.addErrback(lambda failure: self.log.failure("registrations could not be kept", failure))
