"""Sizes of a network's input that a file leaves open, as a user gives them."""

from __future__ import annotations

from dataclasses import dataclass

from effgen.errors import GraphError
from effgen.graph.ops import Shape


@dataclass(frozen=True)
class Sizes:
    """`shape`: of the whole input, of the name `input` where one is given; `image`: height and width alone."""

    shape: Shape = ()
    input: str | None = None
    image: tuple[int, int] | None = None

    def fill(self, name: str, found: list[int | str], batch: int | None) -> Shape:
        """The input's shape, of which the file says `found`: numbers, and names for what is open; a batch that is open
        is `batch`, or 1. Raises GraphError (one line) for what stays open, or was another number already."""
        wanted = self._wanted(name, found, batch)
        shape = []
        for axis, (own, asked) in enumerate(zip(found, wanted, strict=True)):
            is_open = not isinstance(own, int) or own < 1
            if asked is None and is_open:
                raise GraphError(
                    f"input {name}: found shape {_text(found)}: axis {axis} is {own}, expected a static shape; "
                    f"give it by --input-shape {name}:{','.join(self._example(found))}"
                )
            if asked is not None and not is_open and asked != own:
                raise GraphError(self._other(name, found, axis, asked))
            size = own if asked is None else asked
            assert isinstance(size, int)
            shape.append(size)
        return tuple(shape)

    def _wanted(self, name: str, found: list[int | str], batch: int | None) -> list[int | None]:
        if self.input is not None and self.input != name:
            raise GraphError(f"--input-shape {self.input}: the input is {name}; expected that name, or none")
        if self.shape and len(self.shape) != len(found):
            raise GraphError(f"--input-shape {','.join(map(str, self.shape))}: the file's is {_text(found)}")
        wanted: list[int | None] = list(self.shape) or [None] * len(found)
        if not self.shape:
            is_open = not isinstance(found[0], int) or found[0] < 1
            wanted[0] = batch if not is_open or batch is not None else 1
        if self.image is not None:
            self._put_image(found, wanted)
        return wanted

    def _put_image(self, found: list[int | str], wanted: list[int | None]) -> None:
        """Height and width are the open axes behind the batch, or the last two where channels come first."""
        assert self.image is not None
        axes = [axis for axis, own in enumerate(found) if axis and (not isinstance(own, int) or own < 1)]
        if len(axes) != 2 and len(found) == 4:
            channels_last = found[3] in (1, 3) and found[1] not in (1, 3)
            axes = [1, 2] if channels_last else [2, 3]
        if len(axes) != 2:
            raise GraphError(f"--resolution: the file's input is {_text(found)}; expected an image")
        for axis, size in zip(axes, self.image, strict=True):
            wanted[axis] = size

    def _other(self, name: str, found: list[int | str], axis: int, asked: int) -> str:
        if axis == 0 and not self.shape:
            return f"input {name}: the file's batch is {found[0]}, not {asked}; leave out --batch or export again"
        return f"input {name}: found shape {_text(found)}: axis {axis} is {found[axis]}, not {asked}; export it again"

    def _example(self, found: list[int | str]) -> list[str]:
        """A shape of that kind: what is open is 1 for the batch, 224 for the rest."""
        return [
            str(own) if isinstance(own, int) and own > 0 else ("224" if axis else "1") for axis, own in enumerate(found)
        ]


AS_IT_IS = Sizes()


def sizes_from_text(text: str) -> Sizes:
    """`x:1,3,48,192` or `1,3,48,192` -> the input's shape. Raises GraphError for what is none."""
    name, _, numbers = text.rpartition(":")
    parts = numbers.replace("x", ",").split(",")
    if not all(part.strip().isdigit() and 1 <= int(part) <= 2**20 for part in parts):
        raise GraphError(f"--input-shape {text}: expected NAME:N,C,H,W or N,C,H,W, numbers of 1 or more")
    return Sizes(shape=tuple(int(part) for part in parts), input=name or None)


def _text(dims: list[int | str]) -> str:
    return f"({', '.join(map(str, dims))})"
