"""How each project names the layers of a network in its state dicts."""
