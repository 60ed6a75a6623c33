"""The families that ship, one TOML each."""
