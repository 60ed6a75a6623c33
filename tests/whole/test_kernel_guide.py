"""docs/add-a-schedule-rule.md: its files, put where it says, make a kernel that is right; nothing else is touched."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "add-a-schedule-rule.md").read_text()

# The folders of the guide stand beside those of the installed package.
CHECK = """
import sys
from pathlib import Path

import effgen.kernels.kinds, effgen.schedules

for package, folder in ((effgen.kernels, "effgen/kernels"), (effgen.kernels.kinds, "effgen/kernels/kinds"),
                        (effgen.schedules, "schedules")):
    package.__path__.append(str(Path(sys.argv[1], folder)))

from effgen.kernels.kinds import workload_from_name
from effgen.kernels.kinds.upsample import Upsample
from effgen.machines.target import load_target
from effgen.measure.case import TOLERANCE, KernelCase
from effgen.measure.kernels import LocalBench
from effgen.schedules.upsample import space

machine = load_target("cpu")
for workload in (Upsample(2, 5, 7, 24, 2), Upsample(1, 3, 3, 13, 3), Upsample(1, 56, 56, 64, 2)):
    assert workload_from_name(workload.name) == workload
    assert workload.bytes == 4 * (workload.factor**2 + 1) * workload.batch * workload.height * workload.width * (
        workload.channels
    )
    bench = LocalBench(KernelCase(workload, machine, space), lambda: None)
    points = list(space(workload, machine).points())
    assert points and space(workload, machine).default in points
    for decisions in points:
        assert bench.error_after(bench.kernel(decisions)) <= TOLERANCE, (workload, decisions)
print(workload.name)
"""


def test_the_kernel_of_the_guide_works(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n# (\S+)\n(.*?)```", GUIDE, re.DOTALL)
    assert [Path(name).parent.name for name, _ in blocks] == ["kinds", "kernels", "schedules"]
    for name, code in blocks:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(code)
    command = [sys.executable, "-c", CHECK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "f32_upsample_x2_c64_h56"


def test_paths_of_the_guide_exist() -> None:
    made = {name for name, _ in re.findall(r"```python\n# (\S+)\n(.*?)```", GUIDE, re.DOTALL)}
    for path in set(re.findall(r"`((?:effgen|schedules|tests)/[\w/.]+)`", GUIDE)) - made:
        assert (ROOT / path).exists(), path
