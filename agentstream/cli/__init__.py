"""What people type: agentstream demo, call, check, bench, bot."""

from agentstream.cli.commands import main

__all__ = ["main"]
