"""What this node tells whoever asks by HTTP: metrics and health."""
