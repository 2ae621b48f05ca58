"""Plain implementations, one item at a time, that the vectorised code is held against."""
