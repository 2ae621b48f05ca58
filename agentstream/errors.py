"""What can go wrong, by whose fault it is: ours raises, theirs is answered, counted and logged.

Every message is one fixed sentence that says what was wrong and, where the reader can act, what to do.
"""

from __future__ import annotations

import attrs


class AgentstreamError(Exception):
    """The base of every exception that this package raises on purpose."""


class LocalProtocolError(AgentstreamError):
    """This program asked for something that the protocol's state does not allow: a bug here."""


class RemoteProtocolError(AgentstreamError):
    """The other side sent what the protocol does not allow.

    :ivar sentence: a fixed sentence, fit for a log and for a Warning header.
    :ivar status: the SIP status to answer with; 0 where no answer exists (RTP, WebSocket, SIP responses).
    """

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.status = status


@attrs.frozen
class Problem:
    """One mistake in a config file, a flow or a drop-in.

    :ivar file: the file that has it, as text ("" where there is none).
    :ivar path: the dotted path of the value, such as ``sip.listen[0]``.
    :ivar sentence: what was found, what was expected, and the nearest known name where that helps.
    """

    file: str
    path: str
    sentence: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.path, self.sentence) if part)


class ConfigError(AgentstreamError):
    """The configuration cannot be used; carries every problem that was found, not the first."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class ResourceError(AgentstreamError):
    """Something that this machine has only so much of ran out (ports, rows, open files)."""


class StartError(AgentstreamError):
    """The service cannot start; the message says in one sentence what to do."""


class StreamFailed(AgentstreamError):
    """A WebSocket stream to a bot could not be opened.

    :ivar reason: a fixed sentence, such as ``the bot refused the handshake with status 403``.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
