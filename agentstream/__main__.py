"""``python -m agentstream`` is the command ``agentstream``."""

import sys

from agentstream.cli import main

if __name__ == "__main__":
    sys.exit(main())
