"""The folder that was made for this machine: which configurations it holds, and the files of each."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effgen.runtime.cuda import CudaModel
from effgen.runtime.manifest import WEIGHTS, read_manifest
from gpu_compare import CompareError

#: Raised when an old run.py could misread a new folder.
FORMAT = 1

PLAN = "folder.json"


@dataclass(frozen=True)
class Configuration:
    """One bundle and what it is judged by; paths are relative to the folder.

    `network` is the path of two files without their ends (.json: nodes, .npz: arrays). Images are not carried: they
    are normal noise of `seed`, float32 of `shape` (batch, channels, height, width), and `image_sha256` is that of
    their bytes. `golden` is the logits (batch, classes) that PyTorch computed for them where the folder was made.
    """

    name: str
    phi: str
    batch: int
    dtype: str
    bundle: str
    weights: str
    network: str
    golden: str
    seed: int
    shape: tuple[int, ...]
    image_sha256: str


@dataclass(frozen=True)
class Plan:
    """`folder.json`: where the folder comes from, the GPUs its bundles are for, and the configurations in order."""

    effgen: str
    revision: str
    target: str
    archs: tuple[str, ...]
    configurations: tuple[Configuration, ...]
    format: int = FORMAT

    def to_json(self) -> str:
        """The text of the file."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"


def read_plan(folder: Path) -> Plan:
    """The folder's plan. Raises CompareError where it is missing, damaged or of another format."""
    path = folder / PLAN
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            raise CompareError(f"{path}: format = {data['format']}: this run.py reads {FORMAT}; make the folder again")
        configurations = [Configuration(**{**item, "shape": tuple(item["shape"])}) for item in data["configurations"]]
        return Plan(**{**data, "archs": tuple(data["archs"]), "configurations": tuple(configurations)})
    except OSError as error:
        raise CompareError(f"{path}: {error.strerror}: expected the folder that make_folder.py wrote") from None
    except (ValueError, KeyError, TypeError) as error:
        raise CompareError(
            f"{path}: damaged ({type(error).__name__}: {error}); make or copy the folder again"
        ) from None


def noise(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """The images of a configuration, as `effgen compile` makes them for the golden pair."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def sha256_of_array(array: NDArray[Any]) -> str:
    """Hexadecimal SHA-256 of the array's bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()


def golden_logits(folder: Path, configuration: Configuration, image: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """What PyTorch computed for `image` where the folder was made; None where this numpy made another image."""
    if sha256_of_array(image) != configuration.image_sha256:
        return None
    logits: NDArray[np.float32] = np.load(folder / configuration.golden)
    return logits


def load_model(folder: Path, configuration: Configuration) -> CudaModel:
    """The bundle on the GPU. Raises BundleError: damaged files, no GPU or one that the bundle is not for.

    Weights are in the folder once for all bundles that share them: the bundle is put together for the loading.
    """
    with tempfile.TemporaryDirectory(prefix="effgen-") as scratch:
        bundle = Path(scratch) / configuration.name
        bundle.mkdir()
        for file in (folder / configuration.bundle).iterdir():
            shutil.copyfile(file, bundle / file.name)
        shutil.copyfile(folder / configuration.weights, bundle / WEIGHTS)
        return CudaModel(bundle, read_manifest(bundle, whole=False))


def read_network(folder: Path, configuration: Configuration) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """Nodes and arrays for `gpu_compare.torch_network.module_from`."""
    stem = folder / configuration.network
    with np.load(stem.with_name(f"{stem.name}.npz")) as file:
        arrays = {name: file[name] for name in file.files}
    return json.loads(stem.with_name(f"{stem.name}.json").read_text(encoding="utf-8")), arrays
