"""Several measurers at once: no candidate lost, none doubled, whatever happens to a device."""

import _thread
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from effgen.errors import TuneError
from effgen.kernels.kinds.channel_scale import ChannelScale
from effgen.kernels.workload import Workload
from effgen.measure.lanes import DeviceLostError, Job, Lanes, NoDeviceError
from effgen.measure.protocol import Outcome

JOBS = 40

#: More than anything here takes on a busy machine; a test that waits so long has failed.
PATIENCE_S = 600


def workload(number: int) -> ChannelScale:
    return ChannelScale(1, 2, 2, 16 * (number + 1))


@dataclass
class Device:
    """Measures at once; `lost` raises for the calls of these numbers, `dead` from that call on for ever."""

    lost: tuple[int, ...] = ()
    dead: int | None = None
    reconnects: bool = True
    error: BaseException | None = None
    measured: list[int] = field(default_factory=list)
    calls: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)
    raised: threading.Event = field(default_factory=threading.Event)
    before: Callable[[], object] = lambda: None

    def connect(self) -> None:
        if not self.reconnects:
            raise NoDeviceError("no device free")
        if self.dead is not None:
            self.stopped.wait(PATIENCE_S)
            raise NoDeviceError("stopped")

    def stop(self) -> None:
        self.stopped.set()

    def measure(
        self,
        workload: Workload,
        decisions: Mapping[str, int],
        incumbent: Mapping[str, int] | None = None,
        incumbent_s: float = 0.0,
        thorough: bool = False,
    ) -> Outcome:
        self.before()
        number, self.calls = self.calls, self.calls + 1
        if self.error is not None and number == 5:
            self.raised.set()
            raise self.error
        if number in self.lost or (self.dead is not None and number >= self.dead):
            raise DeviceLostError("crashed", "gone")
        self.measured.append(decisions["x"])
        return Outcome("ok")


@dataclass
class Tuner:
    """Hands out `JOBS` jobs and notes what comes back."""

    left: list[int] = field(default_factory=lambda: list(range(JOBS)))
    done: list[tuple[int, str]] = field(default_factory=list)

    def next_job(self, lane: int) -> Job | None:
        return Job("", workload(self.left[0]), {"x": self.left.pop(0)}) if self.left else None

    def take_in(self, job: Job, outcome: Outcome) -> None:
        self.done.append((job.decisions["x"], outcome.status))

    def run(self, *devices: Device) -> Counter[int]:
        """How often each job came back."""
        Lanes(devices, self.next_job, self.take_in).run()
        return Counter(number for number, _ in self.done)


EACH_ONCE = Counter(range(JOBS))


def test_jobs_are_shared_out() -> None:
    barrier = threading.Barrier(2, timeout=PATIENCE_S)  # each waits for the other: so both must be at work
    devices = [Device(before=barrier.wait), Device(before=barrier.wait)]
    assert Tuner().run(*devices) == EACH_ONCE
    assert len(devices[0].measured) == len(devices[1].measured) == JOBS // 2


def test_lost_device_costs_no_job() -> None:
    tuner = Tuner()
    gone, other = Device(dead=3), Device()
    assert tuner.run(gone, other) == EACH_ONCE
    assert {status for _, status in tuner.done} == {"ok"}
    assert sorted(gone.measured + other.measured) == list(range(JOBS))


def test_device_that_comes_back_goes_on() -> None:
    tuner, device = Tuner(), Device(lost=(0, 7))
    assert tuner.run(device) == EACH_ONCE and device.calls == JOBS + 2


def test_candidate_that_loses_two_devices_has_crashed() -> None:
    tuner, device = Tuner(), Device(lost=(4, 5))
    assert tuner.run(device) == EACH_ONCE
    assert [entry for entry in tuner.done if entry[1] != "ok"] == [(4, "crashed")]


def test_lane_without_a_device_leaves_its_jobs_to_others() -> None:
    first, second = Device(lost=(0,), reconnects=False), Device()
    assert Tuner().run(first, second) == EACH_ONCE


def test_no_device_left_is_an_error() -> None:
    for count in (1, 2):
        tuner = Tuner()
        with pytest.raises(NoDeviceError, match="no device free"):
            tuner.run(*(Device(lost=(3,), reconnects=False) for _ in range(count)))
        assert len(tuner.done) == len(set(tuner.done)) == 3 * count


@pytest.mark.parametrize("error", [TuneError("no worker"), KeyboardInterrupt()])
@pytest.mark.parametrize("count", [1, 2])
def test_errors_end_the_run_with_what_is_done(error: BaseException, count: int) -> None:
    tuner, device = Tuner(), Device(error=error)

    def wait_for_the_error() -> None:
        assert device.raised.wait(PATIENCE_S)

    with pytest.raises(type(error)):
        tuner.run(device, *(Device(before=wait_for_the_error) for _ in range(count - 1)))
    assert len(tuner.done) == len(set(tuner.done)) >= 5


def test_interrupt_stops_every_lane() -> None:
    """Ctrl-C comes to the main thread, while one lane measures and the other waits for what may come of that."""
    tuner, device = Tuner(left=[0]), Device()

    def hang() -> None:
        _thread.interrupt_main()
        assert device.stopped.wait(PATIENCE_S)
        raise TuneError("the worker was killed")

    device.before = hang
    with pytest.raises(KeyboardInterrupt):
        tuner.run(device, Device(before=hang))
    assert tuner.done == []


def test_waits_for_jobs_that_a_running_one_makes_possible() -> None:
    """A phase that begins when the last job of the one before has come back."""
    tuner = Tuner(left=[0])

    def take_in(job: Job, outcome: Outcome) -> None:
        tuner.take_in(job, outcome)
        if len(tuner.done) == 1:
            tuner.left = list(range(1, JOBS))

    Lanes([Device(), Device()], tuner.next_job, take_in).run()
    assert Counter(number for number, _ in tuner.done) == EACH_ONCE
