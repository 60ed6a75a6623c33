"""Reports as tables for people and as JSON for programs. Nothing is measured or decided here."""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from collections.abc import Collection, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from effgen.errors import EffgenError
from effgen.version import __version__

if TYPE_CHECKING:  # a command loads only what it reports on
    from effgen.doctor import DoctorReport
    from effgen.inspection import GraphInspection, Inspection, StageRow
    from effgen.machine import Host
    from effgen.results import BenchReport, Report, Result
    from effgen.runtime import Manifest
    from effgen.verify import Case, VerifyReport

STANDARD_OUTPUT = "-"

_STATUS_STYLE = {"ok": "green", "warning": "yellow", "problem": "bold red"}

_INSPECTION_COLUMNS = (
    "name", "operator", "kernel", "stride", "expand", "SE", "channels", "repeats", "resolution",
    "parameters", "multiply-adds", "activations",
)  # fmt: skip
_CASE_COLUMNS = ("input", "max abs", "relative L2", "top-1", "top-5", "noise", "")
_RESULT_COLUMNS = (
    "backend", "median ms", "p10 ms", "p90 ms", "min ms", "images/s", "calls", "vs effgen", "version",
)  # fmt: skip


def check_json_path(destination: str | None) -> None:
    """Raise EffgenError where `write_json` could not write: before the work, not after it."""
    if destination is not None and destination != STANDARD_OUTPUT:
        check_writable("--json", Path(destination), "or - for standard output")


def check_writable(option: str, path: Path, instead: str = "") -> None:
    """Raise EffgenError where no file can be written at `path`; `instead` is what the option takes beside a path."""
    end = f", {instead}" if instead else ""
    if path.is_dir() or not path.parent.is_dir():
        found = "is a directory" if path.is_dir() else f"{path.parent} is no directory"
        raise EffgenError(f"{option} {path}: {found}; give a file's path{end}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise EffgenError(f"{option} {path}: not writable; give another path{end}")


def write_json(data: dict[str, Any], destination: str) -> None:
    """Write `data` to the path `destination`, or to standard output for "-". Raises EffgenError where it cannot."""
    text = json.dumps(_plain({"effgen": __version__, **data}), indent=2, allow_nan=False) + "\n"
    if destination == STANDARD_OUTPUT:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    write_text("--json", Path(destination), text)


def write_text(option: str, path: Path, text: str) -> None:
    """Write the file whole or not at all. Raises EffgenError, naming `option`, where it cannot be written."""
    partial = None
    try:
        if path.exists() and not path.is_file():  # a pipe or a device: nothing to replace
            path.write_text(text, encoding="utf-8")
            return
        path = path.resolve()  # what a link points to is replaced, not the link
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", newline="", dir=path.parent, prefix=f".{path.name}.", suffix=".tmp", delete=False
        ) as file:
            partial = Path(file.name)
            file.write(text)
        partial.chmod(0o644)  # temporary files are private
        partial.replace(path)
    except BaseException as error:
        if partial is not None:
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise EffgenError(f"{option} {path}: cannot write: {error.strerror}; give another path") from None
        raise


def _plain(value: Any) -> Any:
    """JSON has no infinity and no NaN: null stands for both."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_from_inspection(inspection: Inspection) -> dict[str, Any]:
    """Keys as the fields of `Inspection` and `StageRow`."""
    return asdict(inspection)


def json_from_manifest(manifest: Manifest, bundle: Path, seconds: float) -> dict[str, Any]:
    """The manifest, the bundle's path and how long it took to compile."""
    return {"bundle": str(bundle), "seconds": seconds, **asdict(manifest)}


def json_from_verify(report: VerifyReport) -> dict[str, Any]:
    """`passed`, `max_abs` and `rel_l2` (null: not finite) over the judged cases, then the fields of `VerifyReport`."""
    worst = {"passed": report.passed, "max_abs": report.max_abs, "rel_l2": report.rel_l2, "judged": report.judged}
    return {**worst, "worst_case": report.worst.name, **asdict(report)}


def json_from_doctor(report: DoctorReport) -> dict[str, Any]:
    """`healthy`, then the fields of `DoctorReport`."""
    return {"healthy": report.healthy, **asdict(report)}


def table_from_inspection(inspection: Inspection) -> Table:
    """The stage table with its totals."""
    image = f"{inspection.resolution}x{inspection.resolution}"
    table = numbers_table(f"{inspection.model}, {image}, batch {inspection.batch}", _INSPECTION_COLUMNS, left=2)
    for row in inspection.stages:
        table.add_row(*_stage_cells(row))
    table.add_section()
    counts = (inspection.parameters, inspection.macs, inspection.activation_bytes)
    parameters, macs, activations = f"{counts[0]:,}", f"{counts[1]:,}", bytes_text(counts[2])
    table.add_row("total", *[""] * 8, parameters, macs, activations, style="bold")
    return table


def notes_from_inspection(inspection: Inspection | GraphInspection) -> list[str]:
    """What the table's columns mean."""
    return [
        "multiply-adds (MACs): of convolutions and classifier, for one image; papers call them FLOPS",
        f"activations: float32 tensors written in a call of {inspection.batch}; "
        f"at most {bytes_text(inspection.peak_activation_bytes)} of them alive at once, "
        f"beside {bytes_text(inspection.weight_bytes)} of weights",
    ]


def lines_from_baseline(inspection: Inspection) -> list[str]:
    """How the totals relate to the baseline's, where they are not the same."""
    base = inspection.baseline
    if base is None or (base.macs, base.parameters) == (inspection.macs, inspection.parameters):
        return []
    times = f"{base.macs_ratio:.2f}x the MACs and {base.parameters_ratio:.2f}x the parameters"
    return [f"{times} of the baseline ({base.model})"]


def _stage_cells(row: StageRow) -> Iterable[str]:
    kernel = f"{row.kernel}x{row.kernel}" if row.kernel else ""
    expand = f"{row.expand_ratio:g}" if row.expand_ratio is not None else ""
    squeeze = f"{row.se_ratio:g}" if row.se_ratio is not None else ""
    side = str(row.resolution_in) + (f"->{row.resolution_out}" if row.resolution_out != row.resolution_in else "")
    counts = (f"{row.parameters:,}", f"{row.macs:,}", bytes_text(row.activation_bytes))
    shape = (kernel, str(row.stride or ""), expand, squeeze, str(row.channels), str(row.repeats), side)
    return (row.name, row.operator, *shape, *counts)


def lines_from_kernels(manifest: Manifest) -> list[str]:
    """Where each kernel's schedule came from."""
    kernels = sorted(manifest.kernels, key=lambda kernel: (kernel["source"], kernel["name"]))
    return [f"kernel {kernel['name']}: {kernel['source']}, {kernel['calls']} in a run" for kernel in kernels]


def warning_from_manifest(manifest: Manifest) -> str:
    """Of a bundle made from an ONNX file whose own answer nobody could tell, and of one whose answer PyTorch's own is
    too unstable to judge; empty for others."""
    warnings = []
    if reason := manifest.network.get("onnx", {}).get("reading", {}).get("not_checked"):
        warnings.append(f"the file's own answer not checked: {reason}")
    if unjudged := manifest.network.get("golden_not_judged"):
        warnings.append(
            f"golden pair not judged: PyTorch's own answer moves by {unjudged['noise']:.0e} when pixels change by a "
            f"millionth; the library's differs by {unjudged['rel_l2']:.0e}"
        )
    return "; ".join(warnings)


def table_from_manifest(manifest: Manifest, bundle: Path, seconds: float) -> Table:
    """What was compiled: a few lines."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    kernels = manifest.kernels
    sources = sorted({str(kernel["source"]) for kernel in kernels})
    counts = ", ".join(f"{sum(kernel['source'] == source for kernel in kernels)} {source}" for source in sources)
    tuned = sum(str(kernel["source"]).startswith("record:") for kernel in kernels)
    lines = {
        "bundle": str(bundle),
        "model": f"{manifest.name}, {manifest.parameters:,} parameters, {manifest.macs:,} MACs an image",
        "target": f"{manifest.target['name']} ({manifest.target['llvm']['mcpu']}), {threads_text(manifest.threads)}",
        "kernels": f"{tuned} of {len(kernels)} tuned ({counts})",
        "workspace": bytes_text(manifest.workspace_bytes),
        "compiled in": f"{seconds:.1f} s",
    }
    if manifest.standalone is not None:
        lines["standalone"] = ", ".join(file for key, file in manifest.standalone.items() if file and key != "name")
    for key, value in lines.items():
        table.add_row(key, Text(value))
    return table


def table_from_verify(report: VerifyReport) -> Table:
    """One row a case, the worst numbers below."""
    table = numbers_table(f"{report.model} on {report.run_by} against {report.judge}", _CASE_COLUMNS, left=1)
    for case in report.cases:
        table.add_row(*_case_cells(case))
    table.add_section()
    verdict = _status("ok" if report.passed else "problem", "pass" if report.passed else "FAIL")
    table.add_row("worst", f"{report.max_abs:.2e}", f"{report.rel_l2:.2e}", "", "", "", verdict, style="bold")
    return table


def summary_from_verify(report: VerifyReport) -> str:
    """The verdict in a line: the tolerance, and the one it would have needed."""
    verdict = "passed" if report.passed else "FAILED"
    needed = f"needed {report.rel_l2:.1e} ({report.worst.name})"
    judged = f"{report.judged} of {len(report.cases)} cases judged"
    tolerance = f"tolerance relative L2 <= {report.tolerance:.0e}"
    return f"{verdict}: {tolerance}, {needed}; {judged}; {threads_text(report.threads)}"


def _case_cells(case: Case) -> Iterable[str | Text]:
    numbers = (
        f"{case.max_abs:.2e}",
        f"{case.rel_l2:.2e}",
        f"{case.top1:.0%}",
        f"{case.top5:.0%}",
        f"{case.noise:.0e}" if case.noise else "",
    )
    return (case.name, *numbers, _verdict(case))


def _verdict(case: Case) -> Text:
    if not case.passed:
        return _status("problem", "FAIL" if case.finite else "not finite")
    return _status("ok", "pass") if case.judged else _status("warning", "unstable")


def notes_from_verify(report: VerifyReport) -> list[str]:
    """What "unstable" means, where a case is, and the verdict."""
    unstable = any(not case.judged for case in report.cases)
    meaning = "unstable: PyTorch's own answer moves by `noise` when pixels change by a millionth; not judged"
    return [*([meaning] if unstable else []), summary_from_verify(report)]


def table_from_bench(report: BenchReport) -> Table:
    """One row a backend: effgen first, then the peers as asked for; those without a time say why."""
    table = numbers_table(title_from_report(report), _RESULT_COLUMNS, left=1)
    for result in report.results:
        table.add_row(*_result_cells(result), style="bold" if result is report.results[0] else None)
    return table


def title_from_report(report: Report) -> str:
    """What was measured, in a line."""
    model = report.model
    return f"{model.name}, batch {model.batch}, {threads_text(report.threads)}, {model.dtype}"


def notes_from_bench(report: BenchReport) -> list[str]:
    """Backends without a time, the machine, and how it was measured."""
    left_out = [f"{item.backend}: {item.reason}" for item in report.left_out]
    other = "" if report.other_cpus is None else f", {report.other_cpus:.2f} CPUs of other work meanwhile"
    return [*left_out, host_line(report.machine), plan_line(report) + other]


def plan_line(report: BenchReport) -> str:
    """How it was measured, in a line; empty where that was not kept."""
    if report.plan is None:
        return ""
    rounds, seconds = report.plan.rounds, report.plan.min_time_s
    if report.origin.route == "rpc":
        distance = report.results[0].rel_l2 or 0.0
        return f"{rounds} rounds, {seconds:g} s over RPC by the device's clock, relative L2 {distance:.1e}"
    return f"{rounds} interleaved rounds, {seconds:g} s of timed calls a backend"


def warning_from_bench(report: BenchReport) -> str:
    """What makes the times doubtful; empty where nothing does."""
    if not report.disturbed:
        return ""
    return f"other processes kept {report.other_cpus:.1f} CPUs busy: times are inflated, those of peers perhaps more"


def _result_cells(result: Result) -> Iterable[str]:
    times = (result.median_ms, result.p10_ms, result.p90_ms, result.min_ms)
    rest = (f"{result.images_per_second:.1f}", str(result.calls or ""), f"{result.ratio:.2f}x", result.version or "")
    return (result.backend, *map(milliseconds_text, times), *rest)


def milliseconds_text(time: float | None) -> str:
    """Milliseconds, to a microsecond where that says something; empty for None."""
    if time is None:
        return ""
    return f"{time:.3f}" if time < 100 else f"{time:.1f}"


def host_line(host: Host) -> str:
    """The machine in a line, as far as it is known."""
    busy = "" if host.busy_cpus is None else f" ({host.busy_cpus:.1f} CPUs of other work before the start)"
    parts = (
        f"{host.cpu}{' (virtual)' if host.virtual else ''}",
        f"{len(host.cpus)} of {host.logical_cpus} CPUs" if host.logical_cpus else "",
        " ".join(f"{level} {bytes_text(size)}" for level, size in host.caches.items()),
        host.system,
        f"load average {host.load_average[0]:.2f}{busy}" if host.load_average else "",
    )
    return ", ".join(part for part in parts if part)


def table_from_doctor(report: DoctorReport) -> Table:
    """One row a check."""
    table = numbers_table(None, ("check", "", "found", "what to do"), left=4, wrap=("found", "what to do"))
    for check in report.checks:
        table.add_row(check.name, _status(check.status, check.status), Text(check.found), Text(check.fix))
    return table


def threads_text(count: int) -> str:
    """ "1 thread", "2 threads"."""
    return f"{count} thread{'' if count == 1 else 's'}"


def bytes_text(count: int) -> str:
    """Bytes with a binary unit and three digits: 1605632 -> "1.53 MiB"."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1000:
            break
        value, unit = value / 1024, larger
    return f"{count} B" if unit == "B" else f"{value:.3g} {unit}"


def _status(status: str, text: str) -> Text:
    return Text(text, style=_STATUS_STYLE[status])


def numbers_table(title: str | None, columns: Iterable[str], left: int, wrap: Collection[str] = ()) -> Table:
    """A table whose first `left` columns are text and whose others are numbers; those named in `wrap` may be folded."""
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.title_justify, table.title_style = "left", "bold"
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right", no_wrap=column not in wrap)
    return table
