"""The tuner: which candidate next, what became of it, when to stop."""
