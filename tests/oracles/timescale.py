"""Leaving 10 ms out of 30, sample by sample."""

from __future__ import annotations

from agentstream.audio.fade import UNITY


def plain_seam(sound: list[int]) -> tuple[int, int]:
    """The place of the least difference, the first of equals, and its energy."""
    block = len(sound) // 3
    found: list[tuple[int, int]] = []
    for place in range(block + 1):
        found.append((sum((sound[at + block] - sound[at]) ** 2 for at in range(place, place + block)), place))
    energy, place = min(found)
    return place, energy


def plain_leave_out(sound: list[int], place: int) -> list[int]:
    block = len(sound) // 3
    out = []
    for at in range(2 * block):
        if at < place:
            out.append(sound[at])
        elif at >= place + block:
            out.append(sound[at + block])
        else:
            rising = (at - place + 1) * UNITY // block
            out.append((sound[at] * (UNITY - rising) + sound[at + block] * rising) >> 15)
    return out
