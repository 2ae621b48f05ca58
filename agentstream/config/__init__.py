"""The configuration's attrs classes and the strict reading of plain values into them; no files here."""

from agentstream.config.model import Account, Applets, Config, Flows, Media, Node, Route, Sip, Stream, Trunk

__all__ = ["Account", "Applets", "Config", "Flows", "Media", "Node", "Route", "Sip", "Stream", "Trunk"]
