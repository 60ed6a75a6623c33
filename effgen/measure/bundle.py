"""A bundle on a device behind TVM's RPC: sent there, run there, and timed by the device's own clock."""

from __future__ import annotations

import itertools
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray

from effgen.errors import BundleError
from effgen.machines.host import Host
from effgen.measure.protocol import Remote
from effgen.measure.session import device_of, host_of
from effgen.measure.tracker import session_with
from effgen.runtime.answers import Answer, AnswerLayout, array_sizes, joined
from effgen.runtime.arrays import read_aligned
from effgen.runtime.library import check_arrays, refused_arrays
from effgen.runtime.manifest import ARRAY_SIZE, LIBRARY, RUN_ON, WEIGHTS, Manifest, failure, refuse_gpu

#: Seconds to wait for a free device, and those after which the server ends the session.
_WAIT_S, _SESSION_S = 60.0, 600

_numbers = itertools.count()


class RemoteBundle:
    """An `effgen.deploy.executors.Executor` whose library, weights and arrays are on the device.

    `name` says which one.
    """

    def __init__(self, path: Path, manifest: Manifest, remote: Remote, threads: int | None = None) -> None:
        """Raises TuneError where no device can be had or it is none of the bundle's target, BundleError for a GPU's."""
        refuse_gpu(path, manifest, "RPC reaches CPUs only; copy the bundle there (docs/cuda.md)")
        self.manifest = manifest
        self.threads = threads or manifest.threads
        session = session_with(remote, _WAIT_S, _SESSION_S)
        target = manifest.target
        self.device = device_of(
            session, remote.key, target["name"], manifest.architecture, target["features"], self.threads
        )
        self.name = f"{self.device}, by RPC"
        self._session = session
        library = f"effgen_bundle_{next(_numbers)}.so"
        session.upload(bytearray((path / LIBRARY).read_bytes()), library)
        self._module = session.load_module(library)
        session.remove(library)  # what is loaded stays so
        self._cpu = session.cpu(0)
        self._run = self._module[RUN_ON]
        self._layout = AnswerLayout.of(manifest)
        sizes = array_sizes(manifest, (path / WEIGHTS).stat().st_size)
        check_arrays(path / LIBRARY, self._module[ARRAY_SIZE], sizes)
        self._image, self._outputs = (
            self._sent(np.zeros(floats, np.float32)) for floats in (prod(manifest.input["shape"]), self._layout.floats)
        )
        workspace = np.zeros(manifest.workspace_bytes // 4, np.float32)
        self._rest = [self._sent(read_aligned(path / WEIGHTS)), self._sent(workspace)]

    def __call__(self, images: NDArray[np.float32]) -> Answer:
        """The answer to any multiple of the batch; raises BundleError where the images misfit or memory is short."""
        shape = tuple(self.manifest.input["shape"])
        if images.shape[1:] != shape[1:] or len(images) % shape[0] or images.dtype != np.float32:
            raise BundleError(f"images {images.dtype}{list(images.shape)}: this bundle takes float32{list(shape)}")
        batches = (images[start : start + shape[0]] for start in range(0, len(images), shape[0]))
        return joined([self._batch(batch) for batch in batches])

    def host(self) -> Host:
        """The device's machine, as far as its server tells."""
        return host_of(self._session, self.device, self.manifest.architecture)

    def seconds(self, image: NDArray[np.float32], runs: int) -> list[float]:
        """Seconds of each of `runs` runs in a row, by the device's clock; one before them does not count."""
        self._batch(image)
        evaluator = self._module.time_evaluator(RUN_ON, self._cpu, number=1, repeat=runs)
        return list(evaluator(self.threads, self._image, self._outputs, *self._rest).results)

    def _batch(self, image: NDArray[np.float32]) -> Answer:
        self._image.copyfrom(np.ascontiguousarray(image).reshape(-1))
        self._outputs.copyfrom(np.full(self._outputs.shape, np.nan, np.float32))
        try:
            status = self._run(self.threads, self._image, self._outputs, *self._rest)
        except (ValueError, TypeError) as error:
            raise refused_arrays(f"{self.manifest.name} on {self.name}", error) from None
        if status:
            raise BundleError(f"{failure(self.manifest, self.threads, status)} on {self.name}")
        return self._layout.answer(self._outputs.numpy())

    def _sent(self, array: NDArray[np.float32]) -> Any:
        return tvm.runtime.tensor(array, device=self._cpu)
