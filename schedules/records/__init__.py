"""Tuned records that ship: `<target>/records.jsonl`, the best of each kernel, and `manifest.json`. No code here."""
