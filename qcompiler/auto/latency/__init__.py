"""How long each choice of each group takes on this machine."""
