"""The wheel in a clean environment outside the checkout: an editable install hides mistakes."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from pictures import write_picture

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.wheel


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # From a copy: setuptools would take deleted modules from a build/ folder left in the checkout.
    unwanted = shutil.ignore_patterns(".*", "build", "dist", "tests", "*.egg-info", "__pycache__")
    source = shutil.copytree(ROOT, folder / "source", ignore=unwanted)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, source, cwd=folder)
    return next(folder.glob("effgen-*.whl"))


def test_everything_is_inside(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for folder, package in (("effgen", "effgen"), ("schedules", "effgen/schedules"), ("targets", "effgen/targets")):
        for suffix in ("*.py", "*.toml", "*.html", "*.css", "*.js"):
            for file in (ROOT / folder).rglob(suffix):
                assert f"{package}/{file.relative_to(ROOT / folder)}" in names
    for file in (ROOT / "native").rglob("*.*"):
        assert f"effgen/native_sources/{file.relative_to(ROOT / 'native')}" in names or "__pycache__" in file.parts
    assert "effgen/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "schedules/", "targets/", "native/"))]


def test_compiles_where_nothing_else_is(wheel: Path, tiny_spec: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python, effgen = tmp_path / "venv/bin/python", tmp_path / "venv/bin/effgen"
    run(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", f"{wheel}[torch]", cwd=tmp_path)
    assert str(ROOT) not in run(python, "-c", "import effgen.schedules as s; print(s.__file__)", cwd=tmp_path)
    run(effgen, "compile", "--spec", tiny_spec, "--target", "cpu", "--emit", "standalone", "-o", "out", cwd=tmp_path)
    run(effgen, "verify", "out", cwd=tmp_path)
    write_picture(tmp_path / "a.png")
    assert run(effgen, "run", "out", "a.png", "--top", "1", cwd=tmp_path).endswith("a.png\n")
