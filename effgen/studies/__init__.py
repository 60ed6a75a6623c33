"""Searches that several workers share: Optuna trials over coefficients or baselines, each a network that is trained and timed."""
