"""Telephony for voice bots: SIP and RTP on one side, one WebSocket with JSON and PCM on the other.

The rooms of this house, from the top: tap, service, cli and testing build everything; flow runs calls;
net, media and ws are the edges; sip, sdp, rtp, wire and audio are pure; config, interfaces and errors are
the words that everybody shares. Imports point down only (tests/test_layering.py).
"""

import os

# Before anything imports numpy: a second BLAS thread beside the media tick would only take its core.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

__version__ = "0.1.0"
