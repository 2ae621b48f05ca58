"""What calls leave in the memory of a server: nothing. Real sockets, and no garbage collection."""
