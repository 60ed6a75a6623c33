"""Searches that several workers share: Optuna trials, each a network that is trained and timed."""
