"""Real programs to test against: how they are started, watched, ended and what they leave behind."""
