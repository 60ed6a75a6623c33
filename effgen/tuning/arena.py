"""The network compiled with one set of records and with another, to be compared (`confirm`, `effgen.judge.duel`)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from effgen.driver import CompileRequest, compile_bundle
from effgen.errors import BundleError
from effgen.judge.duel import Duel, duel_of_bundles, duel_of_kernels, duel_s
from effgen.judge.messages import Entry, Refused
from effgen.judge.race import Contender
from effgen.network import Network, NetworkRequest
from effgen.network.file_network import OnnxNetwork, OnnxRequest
from effgen.records.record import Record
from effgen.results.reports import OURS
from effgen.words import OnPhase


class NetworkArena:
    """Bundles of one network in `folder`, as `effgen compile` makes them for `target` and `threads` threads."""

    def __init__(
        self,
        request: NetworkRequest | OnnxRequest,
        network: Network | OnnxNetwork,
        target: str,
        threads: int,
        folder: Path,
        on_phase: OnPhase,
    ) -> None:
        self._request, self._network = request, network
        self._target, self._threads = target, threads
        self._folder, self._on_phase = folder, on_phase
        self._built: dict[str, str] = {}
        self._building_s = self._duel_s = 0.0

    def prepare(self, old: Sequence[Record]) -> None:
        """Build the network as it is, and see how long that and a comparison take. Raises an EffgenError where it
        cannot be compiled or run."""
        start = time.monotonic()
        bundle = self._bundle("old", old)
        built = time.monotonic()
        with Contender(Entry(OURS, bundle, self._threads)) as contender:
            if isinstance(contender.told, Refused):
                raise contender.told.error or BundleError(f"{bundle}: {contender.told.reason}")
            call_s = contender.warm_up()
        self._building_s = built - start
        self._duel_s = duel_s(time.monotonic() - built, call_s)

    @property
    def whole_s(self) -> float:
        """About how many seconds it takes to compare the kernels, and then a network with those that won."""
        return 2 * self.another_s

    @property
    def another_s(self) -> float:
        """About how many seconds it takes to build another network and to compare it."""
        return self._building_s + self._duel_s

    def kernels(self, old: Sequence[Record], new: Sequence[Record]) -> Mapping[str, Duel]:
        """Each kernel inside the network, by the names of workloads. Raises an EffgenError."""
        before, after = self._bundle("old", old), self._bundle("new", new)
        self._on_phase("compare old and new kernels inside the network")
        return duel_of_kernels(before, after, self._threads)

    def whole(self, old: Sequence[Record], new: Sequence[Record]) -> Duel:
        """Calls of the whole network. Raises an EffgenError."""
        before, after = self._bundle("old", old), self._bundle("new", new)
        self._on_phase("compare the network, old and new")
        return duel_of_bundles(before, after, self._threads)

    def _bundle(self, side: str, records: Sequence[Record]) -> Path:
        """The bundle made with these records in the user's database; the one that stands there, where it was."""
        text = "".join(f"{record.line}\n" for record in records)
        bundle, database = self._folder / side, self._folder / f"{side}.jsonl"
        if self._built.get(side) != text:
            self._on_phase(f"compile the network with the {side} records")
            database.write_text(text, encoding="utf-8")
            request = CompileRequest(
                self._request,
                bundle,
                target=self._target,
                threads=self._threads,
                force=True,
                database=database,
            )
            compile_bundle(request, network=self._network)
            self._built[side] = text
        return bundle
