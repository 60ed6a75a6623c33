"""What the parts of a spec become in a graph: `layers.py` the small ones, `blocks.py` the blocks."""
