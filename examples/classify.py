"""What is in a picture: python examples/classify.py BUNDLE IMAGE...

BUNDLE is a directory that `effgen compile` wrote. It needs numpy, Pillow and the TVM
runtime; torch and onnx are not loaded.
"""

from __future__ import annotations

import sys

import effgen


def main(bundle: str, *images: str) -> None:
    """Print the five likeliest classes of each image."""
    model = effgen.load(bundle)
    print(f"{model.manifest.name}, {model.threads} threads")
    for image in images:
        print(image)
        for found in model.classify(image, top=5):
            print(f"{found.probability:8.2%}  {found.label}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except effgen.EffgenError as error:
        sys.exit(f"error: {error}")
