"""SIP sockets: the edge around agentstream.sip."""
