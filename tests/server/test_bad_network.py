"""A whole call over a network with 5 % loss, 40 ms of jitter and packets that three others overtake.

With a fixed delay (``playout_min_ms`` and ``playout_max_ms`` equal to ``playout_ms``) the first packet sets when
everything is played, and each later one may be later by no more than that. 40 ms of jitter and a reordering by 3
packets (60 ms) make 100 ms, beyond 60 ms: there, a packet that is overtaken by three is too late and as good as lost.
120 ms hold them all, because what arrives is looked at every 20 ms.
"""

from __future__ import annotations

import pytest

from agentstream.testing.phone import speech
from agentstream.testing.server import ServerUnderTest
from tests.oracles import gaps
from tests.server.kit import bot_flow

PACKETS = 600
SAID = speech(PACKETS * gaps.FRAME_MS)
FRAMES = [SAID[at : at + 160] for at in range(0, len(SAID), 160)]
LOST = gaps.lost_of(PACKETS)
DELAYS_MS = gaps.delays_ms_of(PACKETS)
TOO_LATE_FOR_60 = {number for number, late in enumerate(DELAYS_MS) if late == gaps.MOST_MS} - LOST


def test_the_lists_are_what_they_are_called() -> None:
    assert len(LOST) == 0.05 * PACKETS
    assert {late for late in DELAYS_MS if late != gaps.MOST_MS} == set(gaps.JITTER_MS) >= {0, 40}
    assert all(overtaken >= 3 for overtaken in map(gaps.overtaken(DELAYS_MS).__getitem__, TOO_LATE_FOR_60))


def test_what_is_compared_finds_losses_and_shifts() -> None:
    frames = FRAMES[:10]
    pcm = [gaps.samples_of(frame).tobytes() for frame in frames]
    silent, half = bytes(320), bytes(160)
    whole = gaps.compare(frames, silent + b"".join(pcm) + silent)
    assert (set(whole.delays), whole.gaps) == ({2}, ())
    missing = gaps.compare(frames, b"".join([*pcm[:4], silent, half, pcm[5][160:], *pcm[6:]]))
    assert (set(missing.delays), missing.gaps) == ({0}, ((4, 5),))
    assert missing.unexplained({4}) == missing.unexplained({6, 3}) == [] and missing.unexplained({6}) == [(4, 5)]
    later = gaps.compare(frames, b"".join([*pcm[:4], silent, *pcm[4:]]))
    assert (later.delays[0], later.delays[-1]) == (0, 2)


@pytest.mark.rfc(3550)
@pytest.mark.parametrize(("playout_ms", "too_late"), [(120, set()), (60, TOO_LATE_FOR_60)], ids=["120 ms", "60 ms"])
def test_every_silent_or_concealed_stretch_is_at_a_lost_number(playout_ms: int, too_late: set[int]) -> None:
    media = {"playout_ms": playout_ms, "playout_min_ms": playout_ms, "playout_max_ms": playout_ms}
    with ServerUnderTest(bot_flow(), {"media": media}) as server:
        bot = server.bot()
        phone = server.call()
        phone.path_out.lost = LOST
        phone.path_out.delays_s = [late / 1000 for late in DELAYS_MS]
        phone.say(SAID)
        server.advance(PACKETS * gaps.FRAME_MS / 1000 + 1)
        found = gaps.compare(FRAMES, bot.session.audio)
        assert set(found.delays) == {found.delays[0]}, "the delay is the same from the first block to the last"
        assert found.unexplained(LOST | too_late) == []
        gone = {frame for first, last in found.gaps for frame in range(first, last + 1)}
        assert LOST | too_late <= gone
        phone.hang_up()
        server.advance(0.2)
        fields = server.events("leg_ended")[0].fields
        assert (fields["rtp_lost"], fields["rtp_late"]) == (len(LOST), len(too_late))
        assert fields["rtp_concealed_ms"] == 20 * len(LOST | too_late)


@pytest.mark.rfc(3550)
def test_a_delay_that_follows_loses_less_than_a_fixed_one() -> None:
    """From the same 60 ms: the first that are too late make it longer, and later ones are in time."""
    with ServerUnderTest(bot_flow()) as server:
        server.bot()
        phone = server.call()
        phone.path_out.lost = LOST
        phone.path_out.delays_s = [late / 1000 for late in DELAYS_MS]
        phone.say(SAID)
        server.advance(PACKETS * gaps.FRAME_MS / 1000 + 1)
        phone.hang_up()
        server.advance(0.2)
        fields = server.events("leg_ended")[0].fields
        assert fields["rtp_lost"] == len(LOST)
        assert fields["rtp_late"] < len(TOO_LATE_FOR_60) / 3
        assert fields["rtp_stretched_ms"] > 0
        assert fields["rtp_playout_ms"] > 60
