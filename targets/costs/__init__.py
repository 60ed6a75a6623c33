"""What schedule rules count with on a micro-architecture, one TOML file each, a table for each width of vectors.

A file states what was measured there, or what its maker's documents say; the rest is inherited from the targets. No
file, no key: not yet measured.
"""
