"""Pure numpy: G.711, concealment, fades, tones."""
