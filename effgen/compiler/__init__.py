"""Graph -> kernel calls -> Relax -> program -> machine code."""
