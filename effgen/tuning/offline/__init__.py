"""The desk's side of measuring in a folder: plan, write, read back."""
