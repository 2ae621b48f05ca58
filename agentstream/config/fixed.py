"""What a reload leaves as it was: the settings that sockets, the media plane and the gate were made of. Pure."""

from __future__ import annotations

import attrs

from agentstream.config.model import Config

SECTIONS = ("sip", "tls", "media", "node", "http")
SETTINGS = (("access", "realm"), ("access", "algorithms"))
REGISTRAR_SETTINGS = (("registrar", "file"),)


def keep_fixed(before: Config, config: Config, *, has_registrar: bool) -> tuple[Config, tuple[str, ...]]:
    """The config that a reload brings, with what cannot change before the next start taken from the one before.

    :param has_registrar: phones are served already.
    :return: it, and the names of what has changed in vain.
    """
    vain = []
    for section in SECTIONS:
        if getattr(config, section) != getattr(before, section):
            vain.append(f"[{section}]")
            config = attrs.evolve(config, **{section: getattr(before, section)})
    for section, name in SETTINGS + (REGISTRAR_SETTINGS if has_registrar else ()):
        now, then = getattr(config, section), getattr(getattr(before, section), name)
        if getattr(now, name) != then:
            vain.append(f"[{section}] {name}")
            config = attrs.evolve(config, **{section: attrs.evolve(now, **{name: then})})
    return config, tuple(vain)
