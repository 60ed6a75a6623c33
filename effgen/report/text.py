"""Reports as tables for people and as JSON for programs. Nothing is measured or decided here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def milliseconds_text(time: float | None) -> str:
    """Milliseconds, to a microsecond where that says something; empty for None."""
    if time is None:
        return ""
    return f"{time:.3f}" if time < 100 else f"{time:.1f}"


def threads_text(count: int) -> str:
    """ "1 thread", "2 threads"."""
    return f"{count} thread{'' if count == 1 else 's'}"


def streams_text(count: int) -> str:
    """ "1 stream", "2 streams"."""
    return f"{count} stream{'' if count == 1 else 's'}"


def training_threads_text(fewest_and_most: tuple[int, int] | None) -> str:
    """ "trained with 1 thread each", "trained with 1 to 4 threads each"; empty where it is not known."""
    if fewest_and_most is None:
        return ""
    fewest, most = fewest_and_most
    return f"trained with {f'{fewest} to ' if fewest < most else ''}{threads_text(most)} each"


def bytes_text(count: int) -> str:
    """Bytes with a binary unit and three digits: 1605632 -> "1.53 MiB"."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1000:
            break
        value, unit = value / 1024, larger
    return f"{count} B" if unit == "B" else f"{value:.3g} {unit}"


NOT_MEASURED = "not measured"


#: Behind a ratio of times that other work makes doubtful.
DOUBTFUL = "?"


def ratio_text(ratio: float | None) -> str:
    """Two digits behind the point and an x; `NOT_MEASURED` for None."""
    return NOT_MEASURED if ratio is None else f"{ratio:.2f}x"


def count_text(count: int) -> str:
    """Three digits and a unit: 385814752 -> "386 M"."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= 0.9995 * size:
            return f"{count / size:.3g} {unit}"
    return str(count)


def percent_text(share: float | None) -> str:
    """A share with two digits behind the point; empty for None."""
    return "" if share is None else f"{share * 100:.2f}%"


def sides_text(height: int, width: int) -> str:
    """Pixels of an image: `224` of a square, else `160x320`, height by width."""
    return f"{height}" if height == width else f"{height}x{width}"
