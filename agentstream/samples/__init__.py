"""What is served when no config is given: flows and sounds as package data."""
