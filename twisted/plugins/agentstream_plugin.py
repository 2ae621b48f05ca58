"""``twistd agentstream``: names the module that makes the service, and imports nothing of it."""

from twisted.application.service import ServiceMaker

agentstream = ServiceMaker(
    "agentstream", "agentstream.tap", "Telephony for voice bots: SIP and RTP in, one WebSocket out.", "agentstream"
)
