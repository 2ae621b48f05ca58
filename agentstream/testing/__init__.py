"""The public test kit: a whole server on a Clock, with loss and delay as lists."""
