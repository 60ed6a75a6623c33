"""Kernels with time to spare ask for the weights that will be read next."""

import numpy as np
from blocks import builder, conv, fused, stem

from effgen.compiler.blocks import kernel_calls, look_ahead
from effgen.compiler.calls import KernelCall
from effgen.graph.passes.fold_batchnorm import fold_batchnorm
from effgen.network import NetworkRequest, build_network


def test_weights_are_asked_for_before_they_are_read() -> None:
    graph = build_network(NetworkRequest()).graph
    one = np.ones((), np.float32)
    graph, _ = fold_batchnorm(graph, {name: np.broadcast_to(one, p.shape) for name, p in graph.parameters.items()})
    calls = [call for call in kernel_calls(graph) if isinstance(call, KernelCall)]
    *_, expand, _gate, project, head, _pool, classifier = calls
    squeeze, excite = _gate.layers
    assert head.ahead == classifier.layers
    assert project.ahead == head.layers
    assert expand.ahead == (squeeze, excite, *project.layers)
    # The first images have so many rows that a weight comes at no cost; nothing is asked for twice.
    assert not calls[0].ahead and not calls[3].ahead
    asked = [layer for call in calls for layer in call.ahead]
    assert len(asked) == len(set(asked)) and len(asked) > 30


def test_a_window_asks_for_its_own_weights() -> None:
    b = builder()
    x = b.add("Relu", [conv(b, conv(b, stem(b, 64), 256, "wide"), 128, "narrow")], "narrow.relu")
    x = conv(b, x, 128, "window", kernel=3)
    end = conv(b, x, 512, "last")
    calls = {call.outputs[0]: call for call in look_ahead(fused(b, end)) if isinstance(call, KernelCall)}
    # Nothing of the window's, nor of what is read after it.
    assert calls["wide"].ahead == calls["narrow.relu"].layers
    assert not calls["narrow.relu"].ahead


def test_little_work_does_not_hide_many_weights() -> None:
    for channels, hidden in ((8, False), (512, True)):
        b = builder()
        first = conv(b, stem(b, channels), channels, "first")
        end = conv(b, conv(b, first, 24, "small"), 16384, "last")
        calls = {call.outputs[0]: call for call in look_ahead(fused(b, end)) if isinstance(call, KernelCall)}
        assert calls["last"].layers[0].conv.in_channels * 16384 > 16 * 1024
        assert not calls["small"].ahead
        assert (calls["first"].ahead == calls["last"].layers) == hidden


def test_weights_that_nothing_hides_do_not_keep_others_from_being_asked_for() -> None:
    b = builder()
    x = conv(b, conv(b, stem(b, 128), 128, "first"), 128, "second")
    end = conv(b, conv(b, x, 192, "third"), 65536, "huge")
    calls = {call.outputs[0]: call for call in look_ahead(fused(b, end)) if isinstance(call, KernelCall)}
    assert calls["second"].ahead == calls["third"].layers
    assert not calls["third"].ahead
