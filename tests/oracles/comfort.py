"""The all-pole lattice filter, sample by sample (ITU-T G.711 Appendix II draws it)."""

from __future__ import annotations

from collections.abc import Sequence


def lattice(excitation: Sequence[float], reflections: Sequence[float]) -> list[float]:
    """What the filter with these reflection coefficients makes of the excitation."""
    order = len(reflections)
    backward = [0.0] * (order + 1)
    out = []
    for sample in excitation:
        forward = sample
        for stage in range(order, 0, -1):
            forward -= reflections[stage - 1] * backward[stage - 1]
            backward[stage] = backward[stage - 1] + reflections[stage - 1] * forward
        backward[0] = forward
        out.append(forward)
    return out
