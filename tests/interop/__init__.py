"""Calls by programs that others wrote."""
