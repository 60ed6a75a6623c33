"""Measurements set side by side: a row for each result, and the front of those that no other beats."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from reports import FACTS, HOST, bench_report, facts, rows

from effgen.measure.session import host_of
from effgen.report.bench import host_line
from effgen.results.front import front
from effgen.results.rows import machine_label


def test_row_of_a_result() -> None:
    ours, peer = rows(bench_report(onnxruntime=6.5))
    assert (ours.backend, ours.is_ours, peer.backend, peer.is_ours) == ("effgen", True, "onnxruntime", False)
    assert (ours.result.ratio, peer.result.ratio) == (1.0, 1.3)
    assert (ours.bytes, peer.bytes) == (283_592 + 21_199_744, 21_119_779)
    assert ours.setting.title == "Testing CPU 9000, 2 CPUs, 2 threads, batch 1, float32, target cpu"


def test_machine_is_named_without_ornaments() -> None:
    host = replace(HOST, cpu="Intel(R) Core(TM) i7-9700 CPU @ 3.00GHz", cpus=(3,))
    assert machine_label(host) == "Intel Core i7-9700 @ 3.00GHz, 1 CPU"
    assert machine_label(replace(HOST, cpu="board", cpus=())) == "board"
    assert machine_label(replace(HOST, cpu="", cpus=())) == "x86_64"


def test_device_that_tells_only_its_name() -> None:
    class Session:
        """A server of TVM's own: it has none of effgen's functions."""

        def get_function(self, name: str) -> None:
            raise AttributeError(name)

    host = host_of(Session(), "pi", "aarch64")
    assert (host.cpu, host.architecture, host_line(host), machine_label(host)) == ("pi", "aarch64", "pi", "pi")


def test_rows_stand_by_setting_and_size() -> None:
    large, small = facts(1, macs=2 * FACTS.macs), facts(0)
    found = rows(bench_report(large, x=7.0), bench_report(small, threads=1), bench_report(small))
    assert [(row.model.phi, row.setting.threads, row.backend) for row in found] == [
        (0.0, 2, "effgen"), (1.0, 2, "effgen"), (1.0, 2, "x"), (0.0, 1, "effgen"),
    ]  # fmt: skip


def test_front_is_most_work_in_least_time() -> None:
    found = rows(
        bench_report(facts(0, macs=100), effgen=5.0, slow=9.0),
        bench_report(facts(1, macs=200), effgen=8.0),
        bench_report(facts(2, macs=150), effgen=9.0),
    )
    assert [(row.model.phi, row.backend) for row in front(found)] == [(0.0, "effgen"), (1.0, "effgen")]
    assert front([]) == []


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=12))
def test_front_holds_whoever_is_not_beaten(points: list[tuple[int, int]]) -> None:
    made = [row for macs, ms in points for row in rows(bench_report(facts(0, macs=macs), effgen=float(ms)))]
    kept = {(row.model.macs, row.result.median_ms) for row in front(made)}
    for macs, ms in points:
        beaten = any(m >= macs and t <= ms and (m, t) != (macs, ms) for m, t in points)
        assert ((macs, ms) in kept) == (not beaten)
