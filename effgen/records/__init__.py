"""Tuning records: what was measured, what ships, which schedule a kernel gets."""
