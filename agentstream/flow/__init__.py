"""Config to flows, applets, and calls that run through them."""
