"""The record database: what survives kills, torn lines and company; which record is chosen; what ships."""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from effgen.errors import TuneError
from effgen.files import lines
from effgen.kernels.kinds.channel_scale import ChannelScale
from effgen.machines.machine import Machine
from effgen.machines.microarchitecture import MICROARCHITECTURES
from effgen.machines.target import load_target
from effgen.records import shipped as shipped_module
from effgen.records.database import RecordFile, best_records, default_database
from effgen.records.lookup import RecordSource, find_decisions, find_record, measured_record, record_sources
from effgen.records.record import Record, records_from_text
from effgen.records.shipped import (
    promote,
    record_folder,
    shipped_microarchitectures,
    shipped_names,
    shipped_records,
    shipped_sets,
)

MACHINE = load_target("x86-64-v3")
WORKLOAD = ChannelScale(1, 8, 8, 16)


def record(seconds: float | None = 1e-4, kernel: str = WORKLOAD.name, kept: bool = True, **decisions: int) -> Record:
    status = "ok" if seconds is not None else "crashed"
    return Record(
        kernel, "toy", decisions or {"mode": 1}, status, MACHINE.cores, MACHINE.mcpu, MACHINE.lanes, seconds, kept
    )


@dataclass(frozen=True)
class ToySpace:
    """As much of a Space as choosing needs, without TVM."""

    rule: str = "toy"
    modes: tuple[int, ...] = (0, 1, 2, 3)

    def contains(self, decisions: Mapping[str, int]) -> bool:
        return decisions.keys() == {"mode"} and decisions["mode"] in self.modes

    def builds(self, decisions: Mapping[str, int]) -> bool:
        return True


def chosen(sources: list[RecordSource], machine: Machine = MACHINE, space: ToySpace = ToySpace()) -> int | None:
    found = find_decisions(WORKLOAD, machine, space, sources)  # type: ignore[arg-type]
    return None if found is None else found["mode"]


# The file.


def test_what_is_appended_is_loaded(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "new" / "records.jsonl")
    assert file.load().records == ()
    file.check()
    written = [record(mode=1), record(None, mode=2), replace(record(), error='a "quoted"\nline', kept=False)]
    for each in written:
        file.append(each)
    assert file.load().records == tuple(written) and file.load().ignored == 0
    assert len(file.path.read_text().splitlines()) == 3


def test_torn_line_is_skipped_and_does_not_swallow_the_next(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "records.jsonl")
    file.append(record(mode=1))
    file.append(record(mode=2))
    file.path.write_bytes(file.path.read_bytes()[:-20])
    assert [each.decisions["mode"] for each in file.load().records] == [1]
    file.append(record(mode=3))
    loaded = file.load()
    assert [each.decisions["mode"] for each in loaded.records] == [1, 3] and loaded.ignored == 1


def test_complete_last_line_without_its_end_counts(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "records.jsonl")
    file.path.write_text(record(mode=1).line)
    file.append(record(mode=2))
    assert [each.decisions["mode"] for each in file.load().records] == [1, 2]


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe\x00garbage",
        b"{}",
        b"[1, 2]",
        b"null",
        b"[" * 100_000,
        b'{"kernel": 1}',
        record().line.replace('"ok"', '"fine"').encode(),
        record().line.replace("0.0001", "NaN").encode(),
        record().line.replace("0.0001", "-1").encode(),
        record().line.replace("0.0001", "null").encode(),
        record().line.replace('{"mode": 1}', '{"mode": 1.5}').encode(),
        record().line.replace('{"mode": 1}', "[]").encode(),
        record().line.replace('"kept": true', '"kept": "yes"').encode(),
        record().line.replace("{", '{"from the future": 1, ', 1).encode(),
        record(None).line.replace("null", "0.1").encode(),
    ],
    ids=lambda line: str(line[:40]),
)
def test_foreign_lines_are_counted_not_raised(line: bytes, tmp_path: Path) -> None:
    assert records_from_text(line) == ([], 1)
    file = RecordFile(tmp_path / "records.jsonl")
    file.path.write_bytes(b"\n" + line + b"\n\n" + record().line.encode() + b"\n")
    loaded = file.load()
    assert loaded.records == (record(),) and loaded.ignored == 1


def test_unusable_paths_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "records.jsonl"):
        with pytest.raises(TuneError, match=r"cannot be opened for records.*give another path"):
            RecordFile(path).check()
    with pytest.raises(TuneError, match="cannot be read"):
        RecordFile(tmp_path).load()


APPENDER = """if True:
    import itertools, sys
    from pathlib import Path
    from effgen.records.record import Record
    from effgen.records.database import RecordFile
    name, count = sys.argv[2], int(sys.argv[3])
    file = RecordFile(Path(sys.argv[1]))
    for index in range(count) if count else itertools.count():
        file.append(Record(name, "toy", {"mode": index}, "ok", 1, "cpu", 8, 1.0, error="x" * 3000))
        if index == 0:
            print("started", flush=True)
"""


def appender(path: Path, name: str, count: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", APPENDER, str(path), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    processes = [appender(path, name, 60) for name in "ab"]
    assert [process.wait() for process in processes] == [0, 0]
    for process in processes:
        assert process.stdout
        process.stdout.close()
    loaded = RecordFile(path).load()
    assert loaded.ignored == 0
    for name in "ab":
        assert [r.decisions["mode"] for r in loaded.records if r.kernel == name] == list(range(60))


def test_kill_leaves_a_file_that_goes_on(tmp_path: Path) -> None:
    """The lock goes with the killed process; whatever it left of a line costs nobody else's records."""
    path = tmp_path / "records.jsonl"
    with appender(path, "killed", 0) as process:
        assert process.stdout and process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGKILL)
    RecordFile(path).append(record(mode=7))
    loaded = RecordFile(path).load()
    killed = [r.decisions["mode"] for r in loaded.records if r.kernel == "killed"]
    assert killed == list(range(len(killed))) and len(killed) >= 1
    assert loaded.records[-1] == record(mode=7) and loaded.ignored <= 1


def test_discard_removes_what_it_is_told(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "records.jsonl")
    for mode in range(4):
        file.append(record(mode=mode))
    assert file.discard(lambda r: r.decisions["mode"] % 2 == 0) == 2
    assert [r.decisions["mode"] for r in file.load().records] == [1, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["records.jsonl", "records.jsonl.lock"]


def test_default_database_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_database() == tmp_path / "effgen" / "records.jsonl"


# Choosing.


def test_best_is_the_fastest_that_was_kept() -> None:
    kept, lucky = record(2e-4, mode=1), record(1e-4, kept=False, mode=2)
    other = replace(kept, cores=64)
    assert best_records([record(3e-4, mode=0), lucky, kept, record(None, mode=3), other]) == [kept, other]


def test_order_of_sources() -> None:
    own_other_cores = replace(record(1e-6, mode=0), cores=MACHINE.cores * 4)
    own = RecordSource("database", (record(3e-4, mode=1),), own=True)
    shipped = RecordSource("shipped", (record(1e-4, mode=2), replace(record(mode=3), cores=MACHINE.cores * 2)))
    assert chosen([own, shipped]) == 1
    assert chosen([RecordSource("database", (own_other_cores,), own=True), shipped]) == 2
    assert chosen([shipped]) == 2
    # No record of so many cores: the nearest larger number, never a smaller one.
    assert chosen([RecordSource("shipped", (replace(record(mode=3), cores=MACHINE.cores * 4),)), shipped][:1]) == 3
    assert chosen([shipped], replace(MACHINE, cores=MACHINE.cores * 3)) is None
    assert chosen([]) is None
    found = find_record(WORKLOAD, MACHINE, ToySpace(), [own, shipped])  # type: ignore[arg-type]
    assert found is not None and found[1] is own


def test_own_records_count_for_this_processor_only_shipped_ones_prefer_it() -> None:
    elsewhere = replace(record(1e-6, mode=0), mcpu="other")
    assert chosen([RecordSource("database", (elsewhere,), own=True)]) is None
    assert chosen([RecordSource("shipped", (elsewhere,))]) == 0
    assert chosen([RecordSource("shipped", (elsewhere, record(1e-3, mode=1)))]) == 1
    assert chosen([RecordSource("shipped", (replace(elsewhere, lanes=16),))]) is None


def test_time_of_decisions_is_ones_own_and_the_last() -> None:
    """Chosen or not: a rule's default that nothing beats was measured too."""
    mine = (record(3e-4, kept=False, mode=1), record(1e-4, kept=False, mode=2), record(2e-4, kept=False, mode=1))
    elsewhere = tuple(replace(mine[0], **change) for change in ({"mcpu": "other"}, {"cores": 64}, {"rule": "old"}))
    own = RecordSource("database", (*mine, *elsewhere, record(None, kept=False, mode=3)), own=True)

    def time_of(mode: int, source: RecordSource = own) -> float | None:
        found = measured_record(WORKLOAD, MACHINE, ToySpace(), {"mode": mode}, [source])  # type: ignore[arg-type]
        return None if found is None else found.seconds

    assert [time_of(mode) for mode in range(4)] == [None, 2e-4, 1e-4, None]
    assert time_of(1, RecordSource("shipped", mine)) is None
    assert chosen([own]) is None


def test_stale_records_are_passed_over() -> None:
    source = RecordSource(
        "database", (record(1e-6, mode=3), record(1e-4, mode=1), replace(record(1e-7), rule="old")), own=True
    )
    assert chosen([source]) == 3
    assert chosen([source], space=ToySpace(modes=(0, 1))) == 1
    assert chosen([source], space=ToySpace(modes=(0,))) is None
    assert chosen([source], space=ToySpace(rule="new")) is None


# What ships.


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Shipped folders for both x86-64 targets."""
    monkeypatch.setattr(shipped_module, "_shipped_folder", lambda name: tmp_path / name)
    for name in ("x86-64-v3", "x86-64-v4"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_set_of_a_machine(shipped: Path) -> None:
    v3, v4 = load_target("x86-64-v3"), load_target("x86-64-v4")
    assert record_folder(v3) == "x86-64-v3"
    assert record_folder(replace(v4, name="cpu", features=(*v4.features, "avx512_vnni"))) == "x86-64-v4"
    assert record_folder(replace(v3, name="mine")) == "x86-64-v3"
    # A processor with AVX-512 but narrow vectors here, and one without what the narrow target wants.
    assert record_folder(replace(v3, name="mine", features=v4.features)) == "x86-64-v3"
    assert record_folder(replace(v3, name="mine", features=("avx2",))) is None
    (shipped / "x86-64-v3").rmdir()
    assert record_folder(v3) is None


def test_sets_of_other_micro_architectures_come_after(shipped: Path, tmp_path: Path) -> None:
    """The same one, its vendor's nearest, then the others; a kernel that the nearest lacks is another's."""
    folder, machine = shipped / "x86-64-v3", replace(MACHINE, name="x86-64-v3", microarchitecture="zen3")
    for mode, name in enumerate(("haswell", "zen3", "zen4")):
        promote([replace(record(1e-4 / (mode + 1), mode=mode), microarchitecture=name)], folder, {})
    extra = replace(record(1e-4, kernel="extra", mode=2), microarchitecture="haswell")
    promote([extra], folder, {})
    assert [each.name for each in shipped_sets(machine)] == ["x86-64-v3/zen3", "x86-64-v3/zen4", "x86-64-v3/haswell"]
    absent = tmp_path / "absent.jsonl"
    assert chosen(list(record_sources(machine, absent)), machine) == 1
    assert chosen(list(record_sources(replace(machine, microarchitecture="zen5"), absent)), machine) == 2
    # Nobody says which it is: the set with the most records, whatever a target is called.
    assert shipped_names("x86-64-v3")[0] == "x86-64-v3/haswell"
    found = [source.by_kernel.get("extra") for source in record_sources(machine, absent)]
    assert found == [None, None, None, [extra]]


def test_own_records_of_another_micro_architecture_are_not_this_machines() -> None:
    """Lines of earlier versions, and machines of which nobody says it, go by LLVM's name alone."""
    zen4, zen5 = (replace(MACHINE, microarchitecture=name) for name in ("zen4", "zen5"))
    own = RecordSource("database", (replace(record(1e-6, mode=0), microarchitecture="zen4"),), own=True)
    assert chosen([own], zen4) == 0
    assert chosen([own], zen5) is None
    assert chosen([own], MACHINE) == 0
    old = RecordSource("database", (*own.records, record(1e-7, mode=1)), own=True)
    assert chosen([old], zen5) == 1
    assert chosen([old], zen4) == 0  # the one that says so, faster or not
    both = [record(2e-4, mode=1), replace(record(1e-4, mode=2), microarchitecture="zen4")]
    assert best_records(both) == both


def test_promote_merges_what_is_better_or_missing(shipped: Path, tmp_path: Path) -> None:
    folder = shipped / "x86-64-v3"
    facts = {"tvm": "1", "date": "today"}
    bad = record(None, kernel="bad", mode=1)
    assert promote([record(2e-4, mode=1), record(1e-5, kernel="b", mode=2), bad], folder, facts) == 2
    better = [record(1e-4, mode=3), record(2e-5, kernel="b", mode=0), record(kernel="c", mode=1)]
    assert promote(better, folder, facts) == 2
    modes = {r.kernel: r.decisions["mode"] for r in shipped_records("x86-64-v3", "unknown").records}
    assert modes == {WORKLOAD.name: 3, "b": 2, "c": 1}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["records"] == {"unknown": 3} and [p["changed"] for p in manifest["promotions"]] == [2, 2]
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "unknown.jsonl"]
    names = [source.name for source in record_sources(MACHINE, tmp_path / "absent.jsonl")]
    assert names == ["database", "shipped x86-64-v3/unknown"]
    assert chosen(list(record_sources(MACHINE, tmp_path / "absent.jsonl"))) == 3


@pytest.mark.parametrize("text", ["[" * 100_000, '{"promotions": 5}', "[]", "9" * 5000, ""], ids=str.__len__)
def test_promote_beside_a_manifest_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    assert promote([record()], tmp_path, {"tvm": "x"}) == 1
    assert len(json.loads((tmp_path / "manifest.json").read_text())["promotions"]) == 1


def test_promote_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TuneError, match=r"unknown\.jsonl: cannot be read"):
        promote([record()], tmp_path / "file", {})


def test_what_ships_is_well_formed() -> None:
    """Every line of the shipped sets is a record that may be chosen, one for each key."""
    for name in ("x86-64-v3", "x86-64-v4"):
        manifest = json.loads((Path(shipped_module._shipped_folder(name)) / "manifest.json").read_text())
        assert sorted(manifest["records"]) == shipped_microarchitectures(name) != []
        for microarchitecture, count in manifest["records"].items():
            loaded = shipped_records(name, microarchitecture)
            assert (loaded.ignored, len(loaded.records)) == (0, count)
            assert sorted(map(repr, best_records(loaded.records))) == sorted(map(repr, loaded.records))
            assert {record.microarchitecture for record in loaded.records} == {microarchitecture}
            assert microarchitecture in MICROARCHITECTURES


def test_lines_that_no_tuner_writes_are_passed_over(tmp_path: Path) -> None:
    """Numbers with which nobody can count: no CPUs, thousands of digits, infinity; and lines without end."""
    good = record().line
    bad = [
        good.replace('"cores": ', '"cores": 0'),
        good.replace('"cores": ', '"cores": -'),
        good.replace('"lanes": ', '"lanes": 9' + "9" * 30),
        good.replace('"lanes": ', '"lanes": 9' + "9" * 5000),
        good.replace('"seconds": ', '"seconds": 1e999, "x": '),
        "[" * 100_000,
        '"' + "x" * 2**21 + '"',
    ]
    assert good not in bad
    file = RecordFile(tmp_path / "db")
    file.path.write_text("".join(f"{line}\n" for line in [*bad, good, "", "\t"]))
    loaded = file.load()
    assert [each.line for each in loaded.records] == [good] and loaded.ignored == len(bad)


def test_databases_larger_than_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "db").write_text("\n" * 5000)
    monkeypatch.setattr(lines, "MOST_LINES", 4000)
    with pytest.raises(TuneError, match="has more than 4,000 lines, which is the most that are read here"):
        RecordFile(tmp_path / "db").load()
    monkeypatch.setattr(lines, "MOST_LINES_BYTES", 4000)
    with pytest.raises(TuneError, match=r"cannot be read: larger than 3\.\d+ KiB"):
        RecordFile(tmp_path / "db").load()
