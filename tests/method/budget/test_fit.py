"""`effgen fit`: what it finds is within the budget, its neighbour is not, and its commands give that very network."""

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import one_line
from hypothesis import given, settings
from hypothesis import strategies as st

from effgen.errors import BudgetError
from effgen.method.budget.fit import FitReport, FitRequest, fit
from effgen.method.budget.limits import LimitKind, limits_from_texts
from effgen.method.budget.line import phi_text
from effgen.method.budget.sites import Measured, SiteOptions
from effgen.network import Network, NetworkRequest, build_network
from effgen.report.fit import (
    _share_text,
    commands_from_fit,
    json_from_fit,
    notes_from_fit,
    table_from_fit,
    warning_from_fit,
)


class Machine:
    """Stands in for a `Site`: a nanosecond for each `macs_per_ns` multiply-adds, measured `slower` times as long."""

    why_not = ""

    def __init__(self, name: str, macs_per_ns: float, slower: float = 1.0, measurable: bool = True) -> None:
        self.name, self.macs_per_ns, self.slower = name, macs_per_ns, slower
        self.kinds: frozenset[LimitKind] = frozenset({"latency"})
        self.measurable = self.kinds if measurable else frozenset()
        self.timing = "here" if measurable else "no"
        self.why_not = "" if measurable else "no such machine here"
        self.measured: list[float] = []
        self.disturbed = False

    def estimate(self, kind: LimitKind, network: Network) -> float:
        return network.graph.macs / self.macs_per_ns * 1e-9

    def measure(self, network: Network, on_phase: object) -> Measured:
        seconds = self.estimate("latency", network) * self.slower
        self.measured.append(seconds)
        return Measured({"latency": seconds}, self.disturbed)


def fitted(*machines: Machine, latency: str | list[str] = "20ms", **more: Any) -> FitReport:
    targets = tuple(machine.name for machine in machines)
    texts = [latency] if isinstance(latency, str) else latency
    request = FitRequest(tuple(limits_from_texts("latency", texts, targets)), targets=targets, **more)
    return fit(request, sites=machines)  # type: ignore[arg-type]


def counted(run: Any, *words: str, tmp_path: Path) -> tuple[int, int]:
    """Parameters and multiply-adds that a command line's network has, by `effgen inspect`."""
    status, _, error = run("inspect", *words, "--json", tmp_path / "inspected.json", "-q")
    assert status == 0, error
    data = json.loads((tmp_path / "inspected.json").read_text())
    return data["parameters"], data["macs"]


@given(most=st.integers(80_000, 50_000_000))
@settings(max_examples=20)
def test_multiply_adds_are_kept_to_and_the_next_network_breaks_them(tiny_spec: Path, most: int) -> None:
    spec = str(tiny_spec)
    report = fit(FitRequest(tuple(limits_from_texts("macs", [str(most)], ["cpu"])), spec))
    assert report.above is not None and report.below is not None
    assert report.below.macs <= report.chosen.macs <= most < report.above.macs
    assert report.below.phi < report.chosen.phi_from <= report.chosen.phi < report.above.phi_from
    again = build_network(NetworkRequest(spec, phi_text(report.chosen.phi), "formula"))
    assert (again.graph.macs, again.graph.parameter_count) == (report.chosen.macs, report.chosen.parameters)
    assert again.spec == report.scaled
    assert [expense.option for expense in report.binding] == [f"--max-macs {most}"]


def test_latency_is_confirmed_close_under_the_limit() -> None:
    machine = Machine("cpu", macs_per_ns=80, slower=1.3)
    report = fitted(machine)
    (latency,) = report.chosen.expenses
    assert latency.how == "measured" and 0.95 <= latency.share <= 1
    assert latency.value in machine.measured and len(report.confirmations) == len(machine.measured)
    first = report.confirmations[0]
    assert first.measured.value == pytest.approx(1.3 * first.expected.value)
    assert (report.targets[0].measured, report.targets[0].timing) == (("latency",), "here")
    assert warning_from_fit(report) == ""


def test_a_count_that_is_impossible_opens_no_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said before a machine is calibrated, which takes a minute and a half."""
    monkeypatch.setattr("effgen.method.budget.fit.open_sites", lambda *_: pytest.fail("a machine was opened"))
    limits = limits_from_texts("latency", ["20ms"], ["cpu"]) + limits_from_texts("macs", ["100K"], ["cpu"])
    with pytest.raises(BudgetError, match=r"not even the smallest network, .*--max-macs 100K: 834.4K \(exact\)"):
        fit(FitRequest(tuple(limits)))


def test_the_winner_is_measured_again() -> None:
    notes = notes_from_fit(fitted(Machine("cpu", 80), latency="10ms"))
    again = [note for note in notes if "measured again" in note]
    assert len(again) == 1 and again[0].endswith("at first: fits")


class Endless(Machine):
    """Every network is measured to take four fifths of 1 ms."""

    def measure(self, network: Network, on_phase: object) -> Measured:
        self.measured.append(0.0008)
        return Measured({"latency": 0.0008})


def test_a_search_that_gave_up_says_so() -> None:
    machine = Endless("cpu", 80)
    report = fitted(machine, latency="1ms")
    assert report.gave_up and len(machine.measured) == 8 and report.binding == ()
    assert notes_from_fit(report)[0].endswith(", not tried: 8 networks were measured")
    assert warning_from_fit(report) == (
        "the network takes 80% of --max-latency 1ms on cpu: after 8 networks were measured no larger one was tried"
    )
    assert json_from_fit(report)["gave_up"] is True


def test_a_network_too_near_to_be_tried_is_said_to_be_so() -> None:
    report = fitted(Machine("cpu", 80))
    assert report.above is not None
    (latency,) = report.above.expenses
    report = replace(report, above=replace(report.above, expenses=(replace(latency, share=0.995),)))
    assert not report.gave_up and warning_from_fit(report) == ""
    assert notes_from_fit(report)[0].endswith(", too near to the limit to be tried")


@pytest.mark.parametrize(
    ("share", "text"),
    [(1.0, "100%"), (1.0003, "100.1%"), (0.9998, "99.9%"), (1.004, "100.4%"), (1.08, "108%"), (0.96, " 96%")],
)
def test_a_broken_limit_never_reads_as_kept(share: float, text: str) -> None:
    assert _share_text(share) == text


def test_the_commands_compile_with_what_was_measured(tmp_path: Path) -> None:
    """The database of tuning records decides on the kernels."""
    report = fitted(Machine("cpu", 80), site=SiteOptions(threads=1, database=tmp_path / "my records.jsonl"))
    words = shlex.split(commands_from_fit(report)[0])
    assert words[words.index("--db") + 1] == str(tmp_path / "my records.jsonl")


def test_one_network_fits_all_machines() -> None:
    """The one that leaves less decides, each by its own limit."""
    fast, slow = Machine("cpu", 80), Machine("rpi4", 8, measurable=False)
    report = fitted(fast, slow, latency=["20ms", "rpi4=80ms"])
    assert report.chosen.macs <= 640e6 and report.above is not None and report.above.macs > 640e6
    assert [(e.target, e.how, e.limit) for e in report.chosen.expenses] == [
        ("cpu", "measured", 0.02),
        ("rpi4", "predicted", 0.08),
    ]
    assert [expense.target for expense in report.binding] == ["rpi4"]
    notes = notes_from_fit(report)
    assert "rpi4: latency not measured: no such machine here" in notes
    assert [shlex.split(note)[-3] for note in notes[-2:]] == ["cpu", "rpi4"]


def test_other_work_is_warned_of() -> None:
    machine = Machine("cpu", 80)
    machine.disturbed = True
    report = fitted(machine)
    assert warning_from_fit(report).startswith("other work ran beside the measurements")
    assert any(note.endswith("fits, while other work disturbed it") for note in notes_from_fit(report))


def test_a_line_may_end_before_any_limit() -> None:
    report = fitted(Machine("cpu", 80), max_phi=-1.0)
    assert report.chosen.phi == -1 and report.above is None and report.binding == ()
    assert notes_from_fit(report)[0] == "binds: no limit, the line ends at phi -1"
    assert [column.header for column in table_from_fit(report).columns] == ["", "next smaller", "fits"]


def test_the_smallest_network_may_be_all_there_is() -> None:
    report = fit(FitRequest(tuple(limits_from_texts("macs", ["835K"], ["cpu"]))))
    assert report.below is None and report.chosen.phi_from == report.phi_range[0]
    assert [column.header for column in table_from_fit(report).columns] == ["", "fits", "next larger"]


@pytest.mark.parametrize(
    "limits", [("--max-macs", "1G"), ("--max-params", "2M", "--max-macs", "9G"), ("--max-macs", "20M")]
)
def test_the_command_gives_the_network(limits: tuple[str, ...], run: Any, tmp_path: Path) -> None:
    options = ("--classes", "10", "--padding", "same", "--norm-eps", "tensorflow", "--batch", "2")
    status, out, _ = run("fit", *limits, *options, "--json", "-")
    assert status == 0
    data = json.loads(out)
    (command,) = data["commands"]
    words = shlex.split(command)
    assert words[:2] == ["effgen", "compile"] and words[-4:] == ["--target", "cpu", "-o", "build/efficientnet_cpu"]
    chosen = data["chosen"]["parameters"], data["chosen"]["macs"]
    assert counted(run, *words[2:-4], tmp_path=tmp_path) == chosen
    assert "--batch" in words and words[words.index("--norm-eps") :][:2] == ["--norm-eps", "0.001"]


def test_the_network_as_a_spec_of_its_own(run: Any, tmp_path: Path) -> None:
    spec = tmp_path / "found.toml"
    status, out, error = run("fit", "--max-params", "10M", "-o", spec)
    assert status == 0, error
    assert "binds: --max-params 10M: 10.42M (exact) at phi 1.243029" in out
    assert "effgen compile --spec efficientnet --phi 1.223901 --law formula --target cpu -o build/" in out
    assert spec.read_text().startswith("# Found by `effgen fit --spec efficientnet --max-params 10M`: ")
    direct = counted(run, "--phi", "1.223901", "--law", "formula", tmp_path=tmp_path)
    assert counted(run, "--spec", str(spec), tmp_path=tmp_path) == direct == (9_682_290, 1_196_005_736)
    status, _, error = run("fit", "--max-params", "10M", "-o", spec)
    assert status == 1 and "exists already" in error


@pytest.mark.slow
def test_a_latency_of_this_machine(run: Any) -> None:
    """A limit well above what a network takes here, with the real predictor: what is found was measured to fit. How
    much of the limit it takes is a matter of how quiet the machine is (docs/fit.md), and of the solver, whose tests
    have costs of their own."""
    from effgen.method.latency.measured import measure_network

    network = build_network(NetworkRequest(phi="-4", law="formula"))
    limit_us = measure_network(network).results[0].median_ms * 3e3
    status, out, error = run(
        "fit", "--max-latency", f"{limit_us:.0f}us", "--max-memory", "1GB", "--min-time", "0.5", "--json", "-"
    )
    assert status == 0, error
    data = json.loads(out)
    memory, latency = sorted(data["chosen"]["expenses"], key=lambda expense: expense["kind"], reverse=True)
    assert (latency["how"], memory["how"]) == ("measured", "measured")
    assert 0 < latency["share"] <= 1
    assert any(found["phi"] == data["chosen"]["phi"] for found in data["confirmations"])


@pytest.mark.slow
def test_a_latency_that_no_network_has_here(run: Any) -> None:
    line = one_line(run("fit", "--max-latency", "1us"))
    assert "not even the smallest network, phi -14.033173, fits: --max-latency 1us: " in line and "(measured)" in line


def test_other_families(run: Any) -> None:
    for family in ("mobilenet_v2", "resnet50"):
        status, out, _ = run("fit", "--spec", family, "--max-params", "3M", "--json", "-", "-q")
        data = json.loads(out)
        assert status == 0 and data["chosen"]["parameters"] <= 3_000_000 < data["above"]["parameters"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--max-macs", "100K"],
            "not even the smallest network, phi -14.033173, fits: --max-macs 100K: 834.4K (exact)",
        ),
        (["--max-macs", "1G", "--max-params", "1K"], "--max-params 1K: 461.9K (exact); allow more of it"),
        (["--max-latency", "20"], "--max-latency 20: expected a time above 0 with its unit"),
        (["--max-size", "rpi4=2MB"], "'rpi4' is no --target given"),
        (["--max-macs", "1G", "--target", "cpuu"], "--target cpuu: expected a name"),
        (["--max-macs", "1G", "--target", "cpu", "--target", "cpu"], "--target cpu: given twice"),
        (["--max-macs", "1G", "--batch", "0"], "--batch 0: expected from 1 to 4096"),
        (["--max-macs", "1G", "--min-phi", "3", "--max-phi", "1"], "--min-phi 3: expected at most --max-phi 1"),
        (["--max-macs", "1G", "--min-phi", "-16"], "--min-phi -16: resolution 24"),
        (["--max-macs", "1G", "--spec", "effnet"], "--spec effnet: unknown family"),
        (["--max-macs", "1G", "--rpc-key", "k"], "--rpc-key k: a tracker knows it"),
        (["--max-macs", "1G", "-o", "/"], "-o/--output '/': expected a name"),
        (["--max-macs", "1G", "-o", "found.json"], "found.json: expected a file that ends in .toml, as --spec does"),
        (["--max-macs", "1G", "--json", "/nowhere/x.json"], "--json /nowhere/x.json"),
    ],
    ids=lambda value: "-".join(value).strip("-")[:40] if isinstance(value, list) else "",
)
def test_what_cannot_be_asked_is_said_in_one_line(words: list[str], message: str, run: Any) -> None:
    assert message in one_line(run("fit", *words))
