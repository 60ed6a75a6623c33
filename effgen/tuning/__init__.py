"""The tuner: which candidate next, what became of it, when to stop.

`request` checks what was asked, `session` is the way through, `tuner` hands out candidates that `search` proposes, the
`ledger` writes what came of them, `confirm` has the last word on which are chosen, in the `arena` where networks
compete, `report` sums up. `offline/` writes the folder that travels, and reads its results.
"""
