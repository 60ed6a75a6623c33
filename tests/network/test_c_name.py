"""What a library is called in C: no two networks alike, and always a name."""

import pytest
from standalone_bundles import SMALL_B0

from effgen.network import NetworkRequest, build_network
from effgen.network.c_name import c_name_from_text, library_name
from effgen.network.scaling import Overrides


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("efficientnet_b0", "efficientnet_b0"),
        ("ResNet-152 (v2)", "resnet_152_v2"),
        ("efficientnet_phi1.5", "efficientnet_phi1_5"),
        ("double", "model_double"),
        ("3d-net", "model_3d_net"),
        ("__x__", "model_x"),
        ("größe", "gr_e"),
        ("***", "model"),
        ("static_cast", "model_static_cast"),
        ("size_t", "model_size"),
        ("efficientnet_t", "model_efficientnet"),
        ("n1" * 100, "n1" * 32),
    ],
)
def test_c_names(text: str, name: str) -> None:
    assert c_name_from_text(text) == name


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (NetworkRequest(), "efficientnet_b0"),
        (NetworkRequest(phi="7"), "efficientnet_b7"),
        (NetworkRequest(phi="l2"), "efficientnet_l2"),
        (NetworkRequest(phi="1.5"), "efficientnet_phi1_5"),
        (NetworkRequest(phi="1", law="formula"), "efficientnet_phi1"),
        (SMALL_B0, "efficientnet_b0_r32_c10_w0_25_d0_3"),
        (NetworkRequest(batch=8), "efficientnet_b0_batch8"),
        (NetworkRequest(phi="2", batch=8, overrides=Overrides(resolution=160)), "efficientnet_b2_batch8_r160"),
        (NetworkRequest(overrides=Overrides(width=1.1, padding="same")), "efficientnet_b0_w1_1_same"),
        (NetworkRequest(overrides=Overrides(norm_eps=1e-3)), "efficientnet_b0_eps0_001"),
    ],
)
def test_names_of_networks(request_: NetworkRequest, name: str) -> None:
    assert library_name(build_network(request_)) == name
