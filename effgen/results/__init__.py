"""Results of `effgen bench` set side by side: rows, what makes them doubtful, fronts, regressions. Pure data.

In the order of their use: `sources` reads, `rows` flattens, `doubts`, `front`, `paper` and `regressions` look at the
rows, `comparison` is all of it. Nothing is measured or printed here.
"""
