"""What several rooms say alike, from the command line down: types alone, so that `effgen --help` answers at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

#: Told, in a few words, what begins now: "compile", say.
OnPhase: TypeAlias = Callable[[str], None]

#: Where coefficients of a scaled network come from: the published row of a phi, or the compound formula.
Law = Literal["published", "formula"]

#: Where the border of a strided convolution is: on both sides as in PyTorch, or as TensorFlow puts it.
Padding = Literal["symmetric", "same"]

#: Where kernels are measured: on this machine, by TVM's RPC, in a folder that is carried there.
Route = Literal["local", "rpc", "offline"]

#: What searches schedules: effgen's own search in the rules' spaces, or TVM's MetaSchedule.
Engine = Literal["effgen", "metaschedule"]

#: What a network's numbers are: logits; probabilities that sum to 1, or their logarithms; one probability for each of
#: several labels.
OutputKind = Literal["logits", "probabilities", "log_probabilities", "labels"]

#: How a picture becomes an image of the network's size: resized so that it covers it and its middle cut out, resized to
#: it whatever its shape, or resized to fit into it with bars at two of its sides.
Fit = Literal["crop", "stretch", "letterbox"]

#: In which order the network takes a picture's red, green and blue.
ChannelOrder = Literal["rgb", "bgr"]
