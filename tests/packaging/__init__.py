"""What a wheel, an editable install and an sdist hold, tried in clean environments."""
