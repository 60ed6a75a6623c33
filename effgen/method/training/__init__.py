"""A trainer for small searches: what a network learns from a data set in PyTorch."""
