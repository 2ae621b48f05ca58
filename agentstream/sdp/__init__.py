"""SDP and offer/answer, pure (RFC 4566, RFC 3264)."""
