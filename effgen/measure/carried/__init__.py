"""Measuring on a machine that no network reaches: a folder of candidates goes there, a file of results comes back.

`runner`, `child`, `native`, `lines` go with the folder, `plan`, `folder`, `results` stay at the desk.
"""
