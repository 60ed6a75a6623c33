"""The charts of a baseline search, by plotly: all trials, and the front as it was confirmed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from effgen.method.studies.front import BaselineReport, Member, TriedNetwork, front_of
from effgen.report.html.drawing import (
    OURS_COLOUR,
    PEER_COLOURS,
    QUIET_COLOUR,
    View,
    json_from_figure,
    log_axis,
    plain_text,
)
from effgen.report.search import stage_text
from effgen.report.text import count_text, milliseconds_text, percent_text


def charts_from_search(report: BaselineReport) -> dict[str, list[View]]:
    """Views by chart."""
    confirmed = report.is_confirmed or report.start.timing is not None
    return {"front": [*([_confirmed_view(report)] if confirmed else []), _search_view(report)]}


def _search_view(report: BaselineReport) -> View:
    """Every trial, by its predicted latency and the accuracy of its one training."""
    figure = go.Figure()
    best = front_of(report.candidates)
    figure.add_trace(_front_line([_ms(each) for each in best], [each.accuracy or 0.0 for each in best]))
    start = report.start.candidate
    others = [each for each in report.candidates if each.trial != start.trial]
    groups = (
        ("trained to the end", [each for each in others if each.state == "done"], _marker(PEER_COLOURS[0])),
        ("pruned", [each for each in others if each.state == "pruned"], _marker(QUIET_COLOUR, "circle-open")),
        ("start", [start], _marker(OURS_COLOUR, "star", 15)),
    )
    for name, candidates, marker in groups:
        shown = [each for each in candidates if each.accuracy is not None and each.latency_s is not None]
        figure.add_trace(_points(name, [(_ms(each), each.accuracy, _hover(each)) for each in shown], marker))
    _label_axes(figure, [_ms(each) for each in report.candidates if each.latency_s is not None])
    caption = "Every trial: latency predicted from measured kernels, accuracy of one training."
    return View("all trials", json_from_figure(figure), caption)


def _confirmed_view(report: BaselineReport) -> View:
    """The starting network and the front of the search, with spreads where there are several trainings."""
    figure = go.Figure()
    best = report.front
    figure.add_trace(_front_line([each.latency_ms for each in best], [each.accuracy for each in best]))
    shown = [member for member in (report.start, *report.members) if report.judged(member) is not None]
    found, start = ([one for one in shown if report.is_start(one) == wanted] for wanted in (False, True))
    for name, members, marker in (
        ("front of the search", found, _marker(PEER_COLOURS[0])),
        ("start", start[:1], _marker(OURS_COLOUR, "star", 15)),
    ):
        trace = _points(name, [(each.latency_ms, each.accuracy, _member_hover(each)) for each in members], marker)
        spreads = [(each.sample.spread or 0.0) * 100 for each in members]
        trace.update(error_y={"type": "data", "array": spreads, "thickness": 1}, mode="markers+text")
        trace.update(text=[f"t{each.candidate.trial}" for each in members], textposition="top left")
        figure.add_trace(trace)
    _label_axes(figure, [member.latency_ms for member in (*report.members, report.start)])
    caption = (
        f"Mean of {report.confirm_seeds} trainings with new seeds, whiskers: standard deviation. "
        if report.is_confirmed
        else "Accuracy of the one training by which each was chosen. "
    )
    timed = report.start.timing is not None
    return View(
        "confirmed", json_from_figure(figure), caption + ("Latency measured." if timed else "Latency predicted.")
    )


def _front_line(times: Sequence[float], accuracies: Sequence[float]) -> go.Scatter:
    return go.Scatter(
        name="front",
        mode="lines",
        x=list(times),
        y=[accuracy * 100 for accuracy in accuracies],
        line={"color": QUIET_COLOUR, "width": 6},
        opacity=0.45,
        hoverinfo="skip",
    )


def _points(name: str, points: Sequence[tuple[float, float | None, str]], marker: dict[str, Any]) -> go.Scatter:
    """Points of (milliseconds, accuracy, what is said of them)."""
    return go.Scatter(
        name=name,
        mode="markers",
        x=[time for time, _, _ in points],
        y=[(accuracy or 0.0) * 100 for _, accuracy, _ in points],
        customdata=[words for _, _, words in points],
        hovertemplate="%{customdata}<extra></extra>",
        marker=marker,
        cliponaxis=False,
    )


def _marker(colour: str, symbol: str = "circle", size: int = 9) -> dict[str, Any]:
    return {"size": size, "color": colour, "symbol": symbol}


def _label_axes(figure: go.Figure, times: Sequence[float]) -> None:
    figure.update_layout(
        hovermode="closest",
        xaxis=log_axis("latency, ms", times),
        yaxis={"title": {"text": "accuracy, %"}},
    )


def _member_hover(member: Member) -> str:
    spread = f" +- {percent_text(member.sample.spread)}" if member.sample.spread is not None else ""
    words = f"{percent_text(member.accuracy)}{spread}, {milliseconds_text(member.latency_ms)} ms"
    return _described(member.candidate, words)


def _hover(candidate: TriedNetwork) -> str:
    return _described(candidate, f"{percent_text(candidate.accuracy)}, {milliseconds_text(_ms(candidate))} ms")


def _described(candidate: TriedNetwork, words: str) -> str:
    stages = "<br>".join(stage_text(stage) for stage in candidate.spec.stages)
    return f"<b>{plain_text(candidate.name)}</b><br>{words}<br>{count_text(candidate.macs)} MACs<br>{stages}"


def _ms(candidate: TriedNetwork) -> float:
    return (candidate.latency_s or 0.0) * 1e3
