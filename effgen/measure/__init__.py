"""Measuring candidates in a process of their own: what crosses the pipe, the worker, and who looks after it."""
