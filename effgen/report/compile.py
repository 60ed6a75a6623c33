"""What `effgen compile` prints of the bundle it made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from effgen.report.text import bytes_text, threads_text

if TYPE_CHECKING:  # a command loads only what it reports on
    from effgen.runtime import Manifest


@dataclass(frozen=True)
class Cost:
    """What compiling took: seconds, and the most memory beyond what there was before; None where nobody can tell."""

    seconds: float
    memory_bytes: int | None

    @property
    def text(self) -> str:
        """ "14.1 s, 512 MiB"."""
        memory = "" if self.memory_bytes is None else f", {bytes_text(self.memory_bytes)} of memory"
        return f"{self.seconds:.1f} s{memory}"


def json_from_manifest(manifest: Manifest, bundle: Path, cost: Cost) -> dict[str, Any]:
    """The manifest, the bundle's path and what it took to compile."""
    return {
        "bundle": str(bundle),
        "seconds": cost.seconds,
        "memory_bytes": cost.memory_bytes,
        **manifest.to_data(),
    }


def lines_from_kernels(manifest: Manifest) -> list[str]:
    """Where each kernel's schedule came from."""
    kernels = sorted(manifest.kernels, key=lambda kernel: (kernel["source"], kernel["name"]))
    return [f"kernel {kernel['name']}: {kernel['source']}, {kernel['calls']} in a run" for kernel in kernels]


def warning_from_manifest(manifest: Manifest) -> str:
    """Of a bundle made from an ONNX file whose own answer nobody could tell, of one that nothing here could run, of one
    whose answer PyTorch's own is too unstable to judge, and of one whose checkpoint speaks against its options."""
    warnings = warnings_from_weights(manifest.network.get("weights", {}))
    if reason := manifest.network.get("onnx", {}).get("reading", {}).get("not_checked"):
        warnings.append(f"the file's own answer not checked: {reason}")
    if reason := manifest.network.get("golden", {}).get("not_checked"):
        warnings.append(f"golden pair not checked: {reason}")
    if unjudged := manifest.network.get("golden_not_judged"):
        warnings.append(
            f"golden pair not judged: PyTorch's own answer moves by {unjudged['noise']:.0e} when pixels change by a "
            f"millionth; the library's differs by {unjudged['rel_l2']:.0e}"
        )
    return "; ".join(warnings)


def warnings_from_weights(origin: Mapping[str, Any]) -> list[str]:
    """Of weights whose file says that they are another network's, or does not say whose they are."""
    return [f"{origin['file']}: {text}" for text in origin.get("warnings", [])]


def weights_text(origin: Mapping[str, Any]) -> Text:
    """Where weights came from: the file, whose names they have, which of its sets they are, what was left out; empty
    where they come from no checkpoint, in yellow where there is a warning about them."""
    if origin.get("origin") != "checkpoint":
        return Text("")
    parts = [f"{origin['naming']}'s names"]
    if others := origin.get("others"):
        parts.append(f"{origin['key'] or 'the file itself'}; also there, for --weights-key: {', '.join(others)}")
    elif origin.get("key"):
        parts.append(f"its {origin['key']}")
    if left_out := origin.get("left_out"):
        parts.append(f"{len(left_out)} tensors beside the network left out ({', '.join(left_out[:3])})")
    if origin.get("warnings"):
        parts.append("DOUBTFUL: see the warning, or network.weights.warnings in the manifest")
    return Text(f"{origin['file']} ({'; '.join(parts)})", style="yellow" if origin.get("warnings") else "")


def table_from_manifest(manifest: Manifest, bundle: Path, cost: Cost) -> Table:
    """What was compiled: a few lines."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    kernels = manifest.kernels
    sources = sorted({str(kernel["source"]) for kernel in kernels})
    counts = ", ".join(f"{sum(kernel['source'] == source for kernel in kernels)} {source}" for source in sources)
    tuned = sum(str(kernel["source"]).startswith("record:") for kernel in kernels)
    lines: dict[str, str | Text] = {
        "bundle": str(bundle),
        "model": f"{manifest.name}, {manifest.parameters:,} parameters, {manifest.macs:,} MACs an image",
        "weights": weights_text(manifest.network.get("weights", {})),
        "target": f"{manifest.target['name']} ({manifest.target['llvm']['mcpu']}), {threads_text(manifest.threads)}",
        "kernels": f"{tuned} of {len(kernels)} tuned ({counts})",
        "workspace": bytes_text(manifest.workspace_bytes),
        "golden pair": _golden_text(manifest),
        "compiled in": cost.text,
    }
    if manifest.classes is None:
        shapes = (f"{output['name']} {'x'.join(map(str, output['shape']))}" for output in manifest.outputs)
        lines["outputs"] = ", ".join(shapes)
    if manifest.standalone is not None:
        lines["standalone"] = ", ".join(file for key, file in manifest.standalone.items() if file and key != "name")
    for key, value in lines.items():
        if value:
            table.add_row(key, value if isinstance(value, Text) else Text(value))
    return table


def _golden_text(manifest: Manifest) -> Text:
    """Who compared the new code with PyTorch; in yellow where nobody did."""
    golden = manifest.network["golden"]
    if reason := golden.get("not_checked"):
        return Text(f"not checked: {reason}", style="yellow")
    if "golden_not_judged" in manifest.network:
        return Text(f"not judged: PyTorch's own answer is unstable (run by {golden['checked_by']})", style="yellow")
    return Text(f"checked by {golden['checked_by']}: relative L2 {golden['rel_l2']:.1e}")
