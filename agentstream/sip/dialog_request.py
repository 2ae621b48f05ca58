"""One request of ours inside a dialog: asked for credentials, it is sent again with them (RFC 3261 section 22.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentstream.sip.dialog import Dialog
from agentstream.sip.message import Response
from agentstream.sip.session import ENDED
from agentstream.sip.transactions import ClientTransaction, DialogUser, Transaction

if TYPE_CHECKING:
    from agentstream.sip.core import Core


class DialogRequest:
    """Stands between a transaction and its user where the dialog has credentials: the user hears of the one answer that
    counts.

    :param headers: those that the dialog does not know itself.
    """

    def __init__(
        self,
        core: Core,
        dialog: Dialog,
        method: str,
        user: DialogUser | None,
        headers: list[tuple[str, str]],
        body: bytes,
    ) -> None:
        self._core = core
        self._dialog = dialog
        self._method = method
        self._user = user
        self._headers = headers
        self._body = body
        self._answers = None if dialog.answers is None else dialog.answers.of_next_request()
        self._transaction: ClientTransaction | None = None

    def send(self, now: float) -> ClientTransaction:
        """In a transaction of its own, with what the dialog has been asked for already."""
        core, dialog = self._core, self._dialog
        hop = core.listeners.next_hop(dialog)
        via = core.listeners.via(hop, core.token())
        request = dialog.build_request(self._method, via, headers=self._headers, body=self._body)
        if self._answers is None:
            return core.start_client(request, hop, now, self._user)
        for name, value in self._answers.headers(self._method, request.uri_text):
            request.headers.add(name, value)
        self._transaction = core.start_client(request, hop, now, self)
        return self._transaction

    def response_received(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        """To the user, unless the request is sent again for it."""
        if transaction is self._transaction and self._answers is not None:
            if response.status in (401, 407) and self._is_wanted and self._answers.hear(response):
                again = self.send(now)
                if self._user is not None:
                    self._user.transaction_repeated(transaction, again)
                return
            if 200 <= response.status < 300:
                self._answers.accepted(response)
        if self._user is not None:
            self._user.response_received(transaction, response, now)

    @property
    def _is_wanted(self) -> bool:
        """Of a session that is over, nothing but its BYE is sent again."""
        found = self._core.dialogs.get(self._dialog.key)
        return self._method == "BYE" or (found is not None and found[0].state != ENDED)

    def transaction_failed(self, transaction: ClientTransaction, status: int, now: float) -> None:
        if self._user is not None:
            self._user.transaction_failed(transaction, status, now)

    def transaction_ended(self, transaction: Transaction, now: float) -> None:
        if transaction is self._transaction and self._user is not None:
            self._user.transaction_ended(transaction, now)
