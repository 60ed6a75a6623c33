"""What a network costs in time on a machine: measured as a compiled library, or predicted from its kernels."""
