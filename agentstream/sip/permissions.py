"""What a peer may ask of a call that it is in, beside ending it: the owner of the stack says so, call by call."""

from __future__ import annotations

import attrs


@attrs.frozen
class Permissions:
    """What is obeyed; everything else is refused, and Allow and Supported do not name it.

    :ivar refer: its REFER sends us elsewhere. :ivar replaces: a new call takes the place of this one (Replaces).
    :ivar redirect: its 3xx is followed.
    """

    refer: bool = False
    replaces: bool = False
    redirect: bool = False

    def allow(self, methods: str) -> str:
        """Allow, from what everybody is told."""
        return f"{methods}, REFER" if self.refer else methods

    def supported(self, extensions: str) -> str:
        """Supported, from what everybody is told."""
        more = [name for name, is_so in (("norefersub", self.refer), ("replaces", self.replaces)) if is_so]
        return ", ".join([extensions, *more])


NOTHING = Permissions()
"""What they may whom nobody has named."""
