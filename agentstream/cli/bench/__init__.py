"""How many calls does this machine hold: a server, its load, its bot and a floor, each a process of its own."""
