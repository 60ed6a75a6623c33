"""Machines: what the compiler must know of one, what this one is and can do."""
