"""Which flow a call gets: ``[[route]]``."""

from __future__ import annotations

import fnmatch

import attrs

from agentstream.config.addresses import expect_name
from agentstream.config.metadata import setting


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
