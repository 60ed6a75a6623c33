"""What a user names, a family and phi or a file, as a Graph with its weights."""

from effgen.network.build import (
    Network,
    NetworkRequest,
    baseline_of,
    build_network,
    network_from_spec,
    norm_eps_from_text,
    resolution_from_text,
    sides_from_text,
)

__all__ = [
    "Network",
    "NetworkRequest",
    "baseline_of",
    "build_network",
    "network_from_spec",
    "norm_eps_from_text",
    "resolution_from_text",
    "sides_from_text",
]
