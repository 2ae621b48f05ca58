"""RTP ports and the tick: how sound moves."""
