"""Rewrites of a Graph, one a file; each gives a new Graph and leaves the old one as it is."""
