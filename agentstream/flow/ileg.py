"""What a call needs of its leg: between flows, which know no packets, and SIP with RTP, which know no flows."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from agentstream.interfaces import Audio, ICall, IStream, StreamSpec, TransferEnd


class IRecording(Interface):
    """One recording of a leg. It ends with the leg at the latest."""

    is_running: bool = Attribute("Sound is added to it.")

    def pause() -> None:
        """Record silence from now on."""

    def resume() -> None:
        """Record sound again."""

    def stop() -> None:
        """End it. Harmless when it is over."""


class ILeg(Interface):
    """One SIP dialog with its media port. It tells its call ``leg_ended(by, reason, causes)`` exactly once.

    It must not do so from inside ``answer``, ``play``, ``hear``, ``hear_digits`` or ``open_stream``; from inside
    ``hang_up`` it may.
    """

    is_answered: bool = Attribute("200 has been sent.")
    is_heard: bool = Attribute("What is played reaches the phone, before the answer or after it.")
    hears_tones: bool = Attribute("Digits come as tones in the sound and in no other way.")
    rate_hz: int = Attribute("Samples a second of what is heard and played.")

    hops_left: int = Attribute("Hops that a call of ours for this caller may take (RFC 7332).")

    def answer() -> Deferred[None]:
        """Send 200; fires when audio may flow, errbacks when it cannot any more."""

    def ring() -> None:
        """Send 180, where the phone hears nothing yet."""

    def early_media() -> Deferred[None]:
        """Send 183; fires when audio may flow before the answer."""

    def hold() -> Deferred[None]:
        """Fires when the phone has agreed to send nothing."""

    def resume() -> Deferred[None]:
        """Fires when it has agreed to send again."""

    def send_digits(digits: str, duration_ms: int, gap_ms: int) -> Deferred[None]:
        """Fires when the last has left."""

    def transfer(target: str, timeout_s: float) -> Deferred[TransferEnd]:
        """Send the far end elsewhere. Never errbacks."""

    def hand_over(other: ILeg, timeout_s: float) -> Deferred[TransferEnd]:
        """Send the far end to the one of another leg that is up, to take our place there. Never errbacks."""

    def play(audio: Audio) -> Deferred[None]:
        """Queue samples; fires when the last has left. Cancelling silences and drops what has not been played."""

    def join(other: ILeg) -> Callable[[], None]:
        """Let each hear the other; returns what ends it. A leg is joined with one other at a time."""

    def hear(chunk_ms: int, fn: Callable[[Audio, int], None]) -> Callable[[], None]:
        """``fn(chunk, timestamp_ms)`` for each chunk of what the caller says; returns what ends it."""

    def hear_digits(fn: Callable[[str, int], None]) -> Callable[[], None]:
        """``fn(digit, duration_ms)`` for each DTMF digit; returns what ends it."""

    def hear_speech(fn: Callable[[bool, float], None]) -> Callable[[], None]:
        """``fn(is_speaking, level_dbov)`` when the caller begins and stops to speak; returns what ends it."""

    def open_stream(spec: StreamSpec, call: ICall) -> Deferred[IStream]:
        """Connect a bot; errbacks with StreamFailed, and cancelling gives up."""

    def record() -> IRecording:
        """Record both sides from now on."""

    def hang_up(reason: str) -> None:
        """End the dialog in whatever state it is: a refusal, CANCEL or BYE. Harmless when it is over."""
