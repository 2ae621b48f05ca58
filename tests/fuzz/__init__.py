"""Fuzzing: every parser that reads what others send, against bytes that are made from what they reach in it.

`python -m tests.fuzz` is the command, :mod:`tests.fuzz.targets` what is asked of each parser.
"""
