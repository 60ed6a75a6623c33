"""Machines that effgen compiles for, one TOML file each (read by `effgen.machines.target`)."""
