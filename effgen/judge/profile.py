"""Where a network's time goes: kernels and families beside the machine's ceilings.

`effgen.judge.bench_layers` measures.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effgen.errors import BundleError
from effgen.machines.host import Host
from effgen.results.ceilings import Ceilings
from effgen.results.reports import FamilyTotal, LayersReport, LayerTime, ModelFacts, Origin, Plan, Rates
from effgen.runtime import Manifest
from effgen.runtime.manifest import MANIFEST
from effgen.runtime.profile import Profile

#: The working set whose bandwidth bounds the kernels: all weights and activations, as they are gone through in a run.
NETWORK = "network"

#: Kernels that effgen did not write: what they compute is not counted.
UNCOUNTED_FAMILY = "operator"


@dataclass(frozen=True)
class KernelWork:
    """Multiply-adds and bytes (each read or written once) of a call, or of several together."""

    macs: int
    bytes: int


def work_from_kernels(kernels: Iterable[Mapping[str, Any]], bundle: Path) -> dict[str, KernelWork | None]:
    """What one call of each of the manifest's kernels computes, None where it is not counted, by name.

    Raises BundleError for a kernel of effgen's own without its counts.
    """
    work: dict[str, KernelWork | None] = {}
    for index, kernel in enumerate(kernels):
        counts = [kernel.get(key) for key in ("macs", "bytes")]
        if kernel["family"] == UNCOUNTED_FAMILY:
            work[kernel["name"]] = None
            continue
        for key, count in zip(("macs", "bytes"), counts, strict=True):
            if type(count) is not int or count < 0:
                raise BundleError(
                    f"{bundle / MANIFEST}: kernels[{index}].{key} = {count!r}: expected the count of one call of "
                    f"{kernel['name']}; compile the bundle again"
                )
        work[kernel["name"]] = KernelWork(kernel["macs"], kernel["bytes"])
    return work


def report_from_profile(
    manifest: Manifest,
    model: ModelFacts,
    origin: Origin,
    profile: Profile,
    latency_s: float,
    ceilings: Ceilings,
    plan: Plan,
    host: Host,
    other_cpus: float | None,
) -> LayersReport:
    """The report of a bundle whose undisturbed calls take `latency_s` seconds. Nothing is measured here."""
    layers = layers_from_profile(manifest, profile, latency_s, ceilings)
    kernels_s = sum(call.seconds for call in profile.calls)
    gflops = 2 * model.macs * model.batch / latency_s / 1e9
    return LayersReport(
        origin=origin,
        model=model,
        target=str(manifest.target["name"]),
        threads=ceilings.threads,
        plan=plan,
        latency_ms=latency_s * 1e3,
        kernels_ms=kernels_s * 1e3,
        outside_ms=(latency_s - kernels_s) * 1e3,
        gflops=gflops,
        peak_share=gflops / ceilings.peak_gflops,
        clock_us=profile.clock_s(latency_s) * 1e6,
        layers=layers,
        families=families_from_layers(layers, ceilings),
        ceilings=ceilings,
        machine=host,
        other_cpus=other_cpus,
    )


def layers_from_profile(
    manifest: Manifest, profile: Profile, latency_s: float, ceilings: Ceilings
) -> tuple[LayerTime, ...]:
    """A row a kernel, in the order of first calls; one that the manifest does not name is an uncounted operator."""
    named = {kernel["name"]: kernel for kernel in manifest.kernels}
    work = work_from_kernels(manifest.kernels, Path())
    calls = Counter(call.name for call in profile.calls)
    seconds: defaultdict[str, float] = defaultdict(float)
    for call in profile.calls:
        seconds[call.name] += call.seconds
    return tuple(
        _layer(
            named.get(name, {"name": name, "family": UNCOUNTED_FAMILY, "source": "fallback"}),
            work.get(name),
            calls[name],
            seconds[name],
            latency_s,
            ceilings,
        )
        for name in calls
    )


def _layer(
    kernel: Mapping[str, Any], work: KernelWork | None, calls: int, seconds: float, latency_s: float, ceilings: Ceilings
) -> LayerTime:
    return LayerTime(
        name=kernel["name"],
        family=kernel["family"],
        source=kernel["source"],
        calls=calls,
        call_us=seconds / calls * 1e6,
        total_ms=seconds * 1e3,
        share=seconds / latency_s,
        macs=work.macs if work else None,
        bytes=work.bytes if work else None,
        rates=rates(work, seconds / calls, ceilings),
    )


def families_from_layers(layers: Sequence[LayerTime], ceilings: Ceilings) -> tuple[FamilyTotal, ...]:
    """Totals by family, the one that takes longest first."""
    names = dict.fromkeys(layer.family for layer in layers)
    totals = [_family(name, [layer for layer in layers if layer.family == name], ceilings) for name in names]
    return tuple(sorted(totals, key=lambda total: -total.total_ms))


def _family(name: str, layers: Sequence[LayerTime], ceilings: Ceilings) -> FamilyTotal:
    total_ms = sum(layer.total_ms for layer in layers)
    return FamilyTotal(
        family=name,
        kernels=len(layers),
        calls=sum(layer.calls for layer in layers),
        total_ms=total_ms,
        share=sum(layer.share for layer in layers),
        rates=_family_rates(layers, total_ms / 1e3, ceilings),
    )


def _family_rates(layers: Sequence[LayerTime], seconds: float, ceilings: Ceilings) -> Rates:
    """The roofline is each kernel's own: what all of them would take at their bounds, of what they take."""
    counted = [
        (KernelWork(layer.macs, layer.bytes), layer.calls)
        for layer in layers
        if layer.macs is not None and layer.bytes is not None
    ]
    if not counted:
        return rates(None, seconds, ceilings)
    whole = KernelWork(
        sum(work.macs * calls for work, calls in counted), sum(work.bytes * calls for work, calls in counted)
    )
    least_s = sum(least_seconds(work, ceilings) * calls for work, calls in counted)
    return rates(whole, seconds, ceilings, least_s)


def least_seconds(work: KernelWork, ceilings: Ceilings) -> float:
    """Seconds that the work takes at the peak or at the network's bandwidth, whichever takes longer: its roofline.

    The same bound as min(peak, intensity * bandwidth) on flop a second, and one for kernels without multiply-adds too.
    """
    at_peak = 2 * work.macs / (ceilings.peak_gflops * 1e9)
    return max(at_peak, work.bytes / (ceilings.bandwidth(NETWORK) * 1e9))


def rates(work: KernelWork | None, seconds: float, ceilings: Ceilings, least_s: float | None = None) -> Rates:
    """Rates of `work` done in `seconds`; `least_s` where its bound is not `least_seconds(work)`."""
    if work is None or seconds <= 0:
        return Rates(None, None, None, None, None)
    gflops = 2 * work.macs / seconds / 1e9
    return Rates(
        gflops=gflops,
        gbytes_per_s=work.bytes / seconds / 1e9,
        intensity=2 * work.macs / work.bytes if work.bytes else None,
        peak_share=gflops / ceilings.peak_gflops,
        roofline_share=(least_seconds(work, ceilings) if least_s is None else least_s) / seconds,
    )
