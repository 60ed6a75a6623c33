"""scikit-learn's handwritten digits (1,797 grey pictures of 8 x 8 pixels) as a folder of pictures to learn from.

    python examples/digits.py OUT
    effgen train --spec examples/digits.toml --recipe examples/digits_recipe.toml --data OUT -o digits.safetensors

OUT/train gets the first half and OUT/val the second, as in scikit-learn's own example of them, with a folder of PNG
files for each digit. It needs scikit-learn, which brings the data along.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

#: A pixel counts how many of 4 x 4 finer ones were ink.
BRIGHTEST = 16


def write_digits(folder: Path) -> int:
    """Write `folder/PART/DIGIT/NUMBER.png` for every picture; returns how many there are."""
    digits = load_digits()
    pictures = np.round(digits.images * (255 / BRIGHTEST)).astype(np.uint8)
    for number, (pixels, digit) in enumerate(zip(pictures, digits.target, strict=True)):
        part = "train" if number < len(pictures) // 2 else "val"
        file = folder / part / str(digit) / f"{number:04}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    return len(pictures)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit((__doc__ or "").strip())
    print(f"{write_digits(Path(sys.argv[1]))} pictures in {sys.argv[1]}")
