"""What a scaling search concludes from its accuracies: finalists, the chosen one, and what is compared with what."""

from __future__ import annotations

from searches import FINE

from effgen.method.studies.grid import Grid, GridPlan, make_grid
from effgen.method.studies.latencies import Latencies
from effgen.method.studies.samples import sample_of
from effgen.method.studies.scaling_report import ScaledRow, choose, compared, finalists, row_from
from effgen.network.spec import parse_spec


def rows_of(grid: Grid, accuracies: dict[str, list[float]], confirmed: dict[str, list[float]]) -> list[ScaledRow]:
    """Rows of a grid with these accuracies by kind; of compound networks the first alone has them."""
    seen, rows = set[str](), []
    for candidate in grid.candidates:
        kind = candidate.kind if candidate.kind not in seen else "another"
        seen.add(candidate.kind)
        times = Latencies({candidate.key: 1.0}, "here", 2, "2026-01-02 03:04 UTC")
        found = (sample_of(accuracies.get(kind, [])), sample_of(confirmed.get(kind, [])))
        rows.append(row_from(candidate, grid, times, *found, 0))
    return rows


def small_grid(text: str = FINE) -> Grid:
    return make_grid(parse_spec(text, "fine.toml"), 1.0, GridPlan(step=0.2))


def test_the_verdict_rests_on_seeds_that_picked_nothing() -> None:
    grid = small_grid()
    low, middle, high = ([0.9 + more, 0.901 + more, 0.9005 + more] for more in (0.0, 0.03, 0.05))
    searched = {"compound": high, "depth": middle, "width": low, "resolution": low}
    again = {"compound": middle, "depth": high, "width": [0.93, 0.94, 0.925], "resolution": low}
    rows = rows_of(grid, searched, again)
    best, against = compared(rows, grid.left_out, 3, None)
    assert best is not None and best.kind == "compound"
    outcomes = {single.kind: single.comparison.outcome for single in against if single.comparison is not None}
    assert outcomes == {"depth": "loses to", "width": "is not told apart from", "resolution": "beats"}
    assert choose(rows).kind == "depth"
    assert choose(rows_of(grid, searched, {})).kind == "compound"


def test_accuracies_that_picked_are_not_compared_with_others() -> None:
    grid = small_grid()
    searched = {key: [0.93, 0.94, 0.935] for key in ("compound", "depth", "width", "resolution")}
    again = {"compound": [0.90, 0.901, 0.902], "depth": [0.80, 0.801, 0.802], "resolution": [0.80, 0.801, 0.802]}
    _, against = compared(rows_of(grid, searched, again), grid.left_out, 3, None)
    assert {single.kind: single.missing for single in against} == {
        "depth": "", "width": "all confirming trainings of width failed", "resolution": ""
    }  # fmt: skip
    del again["compound"]
    best, against = compared(rows_of(grid, searched, again), grid.left_out, 3, None)
    assert best is not None and best.kind == "compound"
    lost = "all confirming trainings of compound failed"
    assert [(single.comparison, single.missing) for single in against] == [(None, lost)] * 3
    _, against = compared(rows_of(grid, searched, {}), grid.left_out, 0, None)
    assert all(single.comparison is not None for single in against)


def test_a_dimension_that_cannot_reach_the_goal_is_said() -> None:
    grid = small_grid(FINE.replace("repeats", "scale_depth = false\nrepeats"))
    accuracies = {key: [0.93, 0.94, 0.935] for key in ("compound", "width", "resolution")}
    _, against = compared(rows_of(grid, accuracies, {}), grid.left_out, 0, None)
    assert [(single.kind, single.comparison is None) for single in against] == [
        ("depth", True), ("width", False), ("resolution", False)
    ]  # fmt: skip
    assert against[0].missing.startswith("no network of its balance reaches")


def test_finalists_are_the_best_compound_network_and_the_single_dimensions() -> None:
    grid = small_grid()
    compound = [candidate for candidate in grid.candidates if candidate.kind == "compound"]
    found = {candidate.key: sample_of([0.5]) for candidate in grid.candidates}
    found[compound[-1].key] = sample_of([0.6])
    known = {key: sample for key, sample in found.items() if sample is not None}
    assert [one.kind for one in finalists(grid, known)] == ["compound", "depth", "width", "resolution"]
    assert finalists(grid, known)[0] is compound[-1]
    del known[grid.candidates[0].key]
    assert "depth" not in {one.kind for one in finalists(grid, known)}
