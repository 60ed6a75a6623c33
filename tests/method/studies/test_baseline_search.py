"""A baseline search from the first trial to the confirmed front, with a trainer and latencies that cost nothing."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from baseline_searches import EpochJudge, TableLatencies, request_in, search_in
from optuna.exceptions import StorageInternalError
from optuna.trial import Trial, TrialState

from effgen.errors import BuildError, EffgenError, SpecError, StudyError, TrainingError
from effgen.method.studies import baseline, baseline_search
from effgen.method.studies.baseline import finish, search_and_confirm
from effgen.method.studies.baseline_report import networks_to_confirm, report_of, tried_networks
from effgen.method.studies.baseline_search import BaselineSearch, open_baseline_search
from effgen.method.studies.front import Member, front_of
from effgen.method.studies.judge import JudgeRequest
from effgen.method.studies.space import digest_of_network
from effgen.method.studies.standings import reason_of
from effgen.method.studies.workers import Claim, Policy, Repeated, Settled
from effgen.network.lowering.network import lower


def test_trials_are_different_networks_and_the_start_is_the_first(tmp_path: Path) -> None:
    told: list[Settled] = []
    with closing(search_in(tmp_path)) as search:
        search.run(told.append)
        found = tried_networks(search)
        assert len(found) == len(told) == 8 and found[0].spec == search.space.start
        assert len({digest_of_network(lower(network.spec)) for network in found}) == 8
        assert found[0].latency_s == pytest.approx(lower(search.space.start).macs * 1e-9)
        assert found[0].reward == found[0].accuracy  # T is its own latency
        for network in found:
            assert network.accuracy is not None and network.latency_s is not None
            factor = (network.latency_s / search.latency_target_s()) ** -0.07
            assert network.reward == pytest.approx(network.accuracy * factor)
            assert network.measured_share == 0.75 and network.epochs is None


def test_the_same_command_goes_on_and_a_larger_one_continues(tmp_path: Path) -> None:
    with closing(search_in(tmp_path)) as search:
        search.run()
        first = tried_networks(search)
    with closing(search_in(tmp_path)) as search:
        search.run()
        assert tried_networks(search) == first
        assert isinstance(search.latencies, TableLatencies) and search.latencies.asked == 0
    with closing(search_in(tmp_path, trials=10)) as search:
        search.run()
        assert tried_networks(search)[:8] == first and len(tried_networks(search)) == 10


def test_a_search_of_several_workers_is_one_search(tmp_path: Path) -> None:
    request_in(tmp_path)  # writes its files

    def work() -> None:
        with closing(search_in(tmp_path, trials=14, sampler="evolution")) as search:
            search.run()

    threads = [Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    with closing(search_in(tmp_path, trials=14, sampler="evolution")) as search:
        found = tried_networks(search)
        assert len(found) == 14
        assert sum(network.spec == search.space.start for network in found) == 1
        generations = {trial.system_attrs.get("NSGAIISampler:generation") for trial in search.shared.trials}
        assert max(generation for generation in generations if generation is not None) >= 1


def twice_the_same(search: BaselineSearch) -> list[Claim]:
    """Two running trials of one network, as by two workers of which neither got further yet."""
    start = search.space.start_point
    point = {**start, "stages.0.kernel": next(k for k in (3, 5) if k != start["stages.0.kernel"])}
    for _ in range(2):
        search.shared.study.enqueue_trial(point)
    return [Claim(search.shared.study.ask(), None) for _ in range(2)]


def test_a_slow_worker_s_network_is_not_trained_twice(tmp_path: Path) -> None:
    """The later of two trials of one network is worked on first."""
    with closing(search_in(tmp_path)) as search:
        first, second = twice_the_same(search)
        outcome: list[BaseException] = []

        def work_on_second() -> None:
            with pytest.raises(Repeated) as raised:
                search._objective(second)
            outcome.append(raised.value)

        thread = Thread(target=work_on_second)
        thread.start()
        thread.join(0.3)
        assert not outcome
        search._objective(first)
        thread.join(60)
        assert outcome


def test_a_network_that_was_trained_twice_all_the_same_counts_once(tmp_path: Path) -> None:
    """The earlier trial's worker slept through all the time that the later one's waited for it."""
    with closing(search_in(tmp_path, trials=3, policy=Policy(heartbeat_s=0.01))) as search:
        first, second = twice_the_same(search)
        for claim in (second, first):
            search.shared.study.tell(claim.trial, search._objective(claim))
        search.run()
        found = tried_networks(search)
        assert len({digest_of_network(lower(network.spec)) for network in found}) == len(found) == 3
        assert [network.trial for network in found][:1] == [first.trial.number]
        assert sum(trial.state == TrialState.COMPLETE for trial in search.shared.trials) == 4


def test_the_start_is_tried_also_where_a_sampled_trial_has_its_network(tmp_path: Path) -> None:
    """As after a loss of the start's first worker."""
    with closing(search_in(tmp_path, trials=2)) as search:
        search.shared.study.enqueue_trial(dict(search.space.start_point))
        sampled = Claim(search.shared.study.ask(), None)
        search.shared.study.tell(sampled.trial, search._objective(sampled))
        search.run()
        assert [network.trial for network in tried_networks(search)] == [1, 2]
        assert networks_to_confirm(search)[0].trial == 1


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"exponent": -0.1}, "exponent is -0.07 there and -0.1 here"),
        ({"seed": 7}, "seed is 0 there and 7 here"),
        ({"target": "x86-64-v3"}, "target is 'cpu' there and 'x86-64-v3' here"),
        ({"threads": 1}, "threads is"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_workers_with_other_settings_are_refused(tmp_path: Path, changed: dict[str, object], says: str) -> None:
    search_in(tmp_path, threads=2).close()
    with pytest.raises(StudyError, match=says):
        search_in(tmp_path, **{"threads": 2, **changed})


def test_what_cannot_work_is_refused_at_once(tmp_path: Path) -> None:
    request = request_in(tmp_path)
    both = JudgeRequest(data=tmp_path, trainer="trainer:accuracy")
    cases: list[tuple[dict[str, object], type[EffgenError], str]] = [
        ({"spec": "nothing"}, SpecError, "unknown family"),
        ({"judge": both}, StudyError, "and not both"),
        ({"judge": JudgeRequest(trainer="nothing:at_all")}, TrainingError, "no module nothing"),
        ({"plan": replace(request.plan, trials=0)}, StudyError, "--trials 0: expected from 1"),
        ({"plan": replace(request.plan, population=1)}, StudyError, "--population 1: expected from 2"),
        ({"plan": replace(request.plan, exponent=0.1)}, StudyError, "--exponent 0.1: expected from -10 to 0"),
        (
            {"plan": replace(request.plan, seed=2**32 - 2)},
            StudyError,
            "--seed 4294967294: expected from 0 to 4294967293",
        ),
        ({"plan": replace(request.plan, confirm_seeds=-1)}, StudyError, "--confirm-seeds -1: expected from 0"),
        ({"storage": "ftp://x/y"}, StudyError, "--storage ftp://x/y"),
    ]
    for changed, kind, says in cases:
        with pytest.raises(kind, match=says):
            open_baseline_search(replace(request, **changed))  # type: ignore[arg-type]
    assert not (tmp_path / "trials.log").exists()


def epoch_search(folder: Path, curves: list[list[float]], **changed: object) -> BaselineSearch:
    return search_in(folder, EpochJudge(curves), **changed)


def test_poor_trials_are_stopped_but_not_the_start(tmp_path: Path) -> None:
    curves = [[0.1, 0.1, 0.1, 0.1], [0.5, 0.7, 0.8, 0.9], [0.5, 0.7, 0.8, 0.9], [0.2, 0.2, 0.2, 0.2]]
    with closing(epoch_search(tmp_path, curves, trials=4, population=2)) as search:
        search.run()
        found = tried_networks(search)
        assert [(network.state, network.epochs) for network in found] == [
            ("done", 4), ("done", 4), ("done", 4), ("pruned", 1)
        ]  # fmt: skip
        assert found[3].accuracy == 0.2 and found[3].trial not in {one.trial for one in front_of(found)}
        assert list(search.shared.trials[found[1].trial].intermediate_values) == [1, 2, 3, 4]


@pytest.mark.parametrize("method", ["report", "set_user_attr"])
def test_a_storage_that_blinks_costs_no_training(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("effgen.method.studies.workers._PAUSES_S", (0.0, 0.0))
    whole, failures = getattr(Trial, method), []

    def blinks(self: Trial, key: object, value: object) -> None:
        if len(failures) < 2 and (method == "report" or key == "latency_s"):
            failures.append(key)
            raise StorageInternalError("gone")
        whole(self, key, value)

    with closing(epoch_search(tmp_path, [[0.5, 0.6]] * 2, trials=2, population=2)) as search:
        monkeypatch.setattr(Trial, method, blinks)
        search.run()
        new = [trial for trial in search.shared.trials if reason_of(trial) != "duplicate"]
        assert [trial.state for trial in new] == [TrialState.COMPLETE] * 2 and len(failures) == 2
        assert [network.epochs for network in tried_networks(search)] == [2, 2]


def test_a_trial_that_fails_counts_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(epoch_search(tmp_path, [[0.5] * 4])) as search:
        train = BaselineSearch.train

        def failing(self: BaselineSearch, claim: object, spec: object, *rest: object) -> float:
            if spec != self.space.start:
                raise TrainingError("diverged in epoch 1")
            return train(self, claim, spec, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(BaselineSearch, "train", failing)
        search.run()
        found = tried_networks(search)
        assert [network.state for network in found] == ["done"] + ["failed"] * 7
        assert found[1].error == "diverged in epoch 1" and found[1].latency_s is not None
        assert [network.trial for network in networks_to_confirm(search)] == [found[0].trial]


def test_what_failed_is_tried_again_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = request_in(tmp_path, trials=4)
    trainer = tmp_path / "by_environment.py"
    trainer.write_text("import os\ndef accuracy(spec, seed):\n    return float(os.environ['ACCURACY'])\n")
    request = replace(request, judge=JudgeRequest(trainer=f"{trainer}:accuracy"))
    monkeypatch.setenv("ACCURACY", "none")
    with (
        closing(open_baseline_search(request, TableLatencies())) as search,
        pytest.raises(StudyError, match=r"the first 3 trials of this worker all failed, .*'none'"),
    ):
        search.run()
    monkeypatch.setenv("ACCURACY", "0.5")
    with closing(open_baseline_search(replace(request, retry_failed=True), TableLatencies())) as search:
        assert search.retried == 3
        search.run()
        assert [network.state for network in tried_networks(search)] == ["done"] * 4
        assert networks_to_confirm(search)[0].spec == search.space.start


def test_without_a_place_to_meet_no_study_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/dev/null/nowhere")
    with pytest.raises(StudyError, match=r"/dev/null/nowhere/.*: cannot be written"):
        search_in(tmp_path)
    assert not (tmp_path / "trials.log").exists()


def test_a_start_that_fails_ends_the_search(tmp_path: Path) -> None:
    def broken(folder: Path) -> BaselineSearch:
        request = request_in(folder, trials=2)
        (folder / "broken.py").write_text("def accuracy(spec, seed):\n    raise ValueError('no data')\n")
        judge = JudgeRequest(trainer=f"{folder / 'broken.py'}:accuracy")
        return open_baseline_search(replace(request, judge=judge), TableLatencies())

    with closing(broken(tmp_path)) as search:
        search.run()
        with pytest.raises(StudyError, match=r"tiny itself has no accuracy: .*ValueError: no data"):
            networks_to_confirm(search)


def test_a_space_without_more_networks_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline_search, "_EXHAUSTED", 10)
    narrow = search_of_one_decision(tmp_path)
    with closing(search_in(tmp_path, trials=5)) as whole:
        search = replace(whole, space=replace(whole.space, choices=narrow))
        with pytest.raises(StudyError, match=r"had all been tried: .* expected --trials 2 or fewer"):
            search.run()
        counted = [trial for trial in search.shared.trials if trial.state == TrialState.COMPLETE]
        assert len(counted) == 2
        assert {reason_of(trial) for trial in search.shared.trials if trial not in counted} >= {"duplicate"}


def search_of_one_decision(folder: Path) -> dict[str, tuple[object, ...]]:
    """The tiny space in which only one kernel's size is open."""
    with closing(search_in(folder)) as search:
        point = search.space.start_point
        return {
            key: values if key == "stages.0.kernel" else (point[key],) for key, values in search.space.choices.items()
        }


def test_the_front_is_trained_again_with_other_seeds(tmp_path: Path) -> None:
    with closing(search_in(tmp_path)) as search:
        told: list[Settled] = []
        members = search_and_confirm(search, on_confirmed=told.append)
        networks = networks_to_confirm(search)
        assert [member.candidate for member in members] == networks and networks[0].spec == search.space.start
        assert len(told) == 2 * len(members)
        for member in members:
            first = member.candidate.accuracy
            assert first is not None and member.confirmed is not None
            assert member.confirmed.values == pytest.approx((first + 0.002, first + 0.004))  # seeds 1 and 2, not 0
        report = report_of(search, members)
        assert report.start == members[0] and len(report.candidates) == 8
        assert {member.candidate.trial for member in report.members} == {
            one.trial for one in front_of(report.candidates)
        }
        # Again: nothing is trained.
        again: list[Settled] = []
        assert search_and_confirm(search, on_confirmed=again.append) == members and again == []


def test_a_front_that_cannot_be_timed_is_reported_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object, **named: object) -> list[Member]:
        raise BuildError("no space left")

    monkeypatch.setattr(baseline, "time_together", fails)
    phases: list[str] = []
    with closing(search_in(tmp_path)) as search:
        report = finish(search, search_and_confirm(search), phases.append)
    assert phases == ["not timed: no space left"] and report.members and report.start.timing is None


def test_without_seeds_to_confirm_the_searchs_own_stand(tmp_path: Path) -> None:
    with closing(search_in(tmp_path, confirm_seeds=0)) as search:
        members = search_and_confirm(search)
        assert all(member.confirmed is None for member in members)
        assert not report_of(search, members).is_confirmed


def test_a_latency_target_of_ones_own(tmp_path: Path) -> None:
    with closing(search_in(tmp_path, latency_target_s=1e-3, trials=2)) as search:
        search.run()
        start = tried_networks(search)[0]
        assert search.latency_target_s() == 1e-3
        assert start.accuracy is not None and start.latency_s is not None
        assert start.reward == pytest.approx(start.accuracy * (start.latency_s / 1e-3) ** -0.07)
