"""Tuned records that ship: `<target>/<micro-architecture>.jsonl`, the best of each kernel as measured there, and
`<target>/manifest.json`. No code here."""
