"""Right and fast? The bundle held against PyTorch and beside its peers."""
