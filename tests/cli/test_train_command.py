"""`effgen train`: a folder of pictures to weights that compile, whatever happens on the way."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import one_line
from learning import write_stripes

from effgen.machines.cpu import usable_cpus
from effgen.method.training.recipe import parse_recipe

pytestmark = pytest.mark.usefixtures("one_torch_thread")

ROOT = Path(__file__).parents[2]
RECIPE = "epochs = 3\nbatch_size = 8\nwarmup_epochs = 1\n"

#: `effgen train`, which waits to be stopped as soon as it has told of its first epoch.
STOPS_AFTER_AN_EPOCH = """if True:
    import sys, time

    class Waiting:
        def write(self, text):
            sys.__stderr__.write(text)
            if text.startswith("epoch 1/3"):
                sys.__stderr__.flush()
                time.sleep(600)

        def __getattr__(self, name):
            return getattr(sys.__stderr__, name)

    sys.stderr = Waiting()
    from effgen.cli import main
    main()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set, a recipe and room for what is made of them."""
    write_stripes(tmp_path / "d", side=32)
    (tmp_path / "r.toml").write_text(RECIPE)
    return tmp_path


def words(folder: Path, spec: Path) -> list[str | Path]:
    given = ("--spec", spec, "--data", folder / "d", "--recipe", folder / "r.toml", "--threads", "1")
    return ["train", *given, "-o", folder / "w.safetensors"]


def test_weights_labels_and_reports(run: Any, tiny_spec: Path, folder: Path) -> None:
    code, out, err = run(*words(folder, tiny_spec), "--json", folder / "report.json", "--seed", "7")
    assert code == 0 and "w.safetensors" in out and "validation pictures" in out
    assert "2 classes, 26 pictures to learn from, 6 to judge by" in err and "seed 7" in err
    assert len(re.findall(r"epoch \d/3  loss \d\.\d{4}  accuracy [\d.]+%", err)) == 3
    report = json.loads((folder / "report.json").read_text())
    assert report["classes"] == ["level", "upright"] and report["recipe"]["seed"] == 7
    assert report["accuracy"] == report["history"][-1]["accuracy"] and len(report["history"]) == 3
    made = {"d", "r.toml", "w.safetensors", "w.labels.txt", "report.json"}
    assert {path.name for path in folder.iterdir()} == made  # the checkpoint is gone
    assert "exists already" in one_line(run(*words(folder, tiny_spec)))
    assert run(*words(folder, tiny_spec), "--force", "-q")[0] == 0


def test_same_command_same_file(run: Any, tiny_spec: Path, folder: Path) -> None:
    contents = []
    for _ in range(2):
        assert run(*words(folder, tiny_spec), "--force", "--json", "-")[0] == 0
        contents.append((folder / "w.safetensors").read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)], ids=["SIGINT", "SIGKILL"]
)
def test_stopped_and_started_again(
    number: signal.Signals, status: int, run: Any, tiny_spec: Path, folder: Path
) -> None:
    """After the first epoch, then the same command: the weights are those of an undisturbed run."""
    assert run(*words(folder, tiny_spec))[0] == 0
    expected = (folder / "w.safetensors").read_bytes()
    for made in ("w.safetensors", "w.labels.txt"):
        (folder / made).unlink()
    command = [sys.executable, "-c", STOPS_AFTER_AN_EPOCH, *map(str, words(folder, tiny_spec))]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            if line.startswith("epoch 1/3"):
                break
        process.send_signal(number)
        rest = process.stderr.read()
    assert process.returncode == status and "Traceback" not in rest
    left = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert left == {"d", "r.toml", "w.safetensors.checkpoint"}
    code, _, err = run(*words(folder, tiny_spec))
    assert code == 0 and "going on from" in err and "epoch 1/3" in err
    assert (folder / "w.safetensors").read_bytes() == expected


def test_killed_between_labels_and_weights(
    run: Any, tiny_spec: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def killed(self: Path, target: Path) -> Path:
        if target.name == "w.safetensors":
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        assert run(*words(folder, tiny_spec))[0] == 130
    left = {"d", "r.toml", "w.labels.txt", "w.safetensors.checkpoint"}
    assert {path.name for path in folder.iterdir()} == left
    assert run(*words(folder, tiny_spec))[0] == 0
    assert {path.name for path in folder.iterdir()} == {"d", "r.toml", "w.labels.txt", "w.safetensors"}
    (folder / "w.safetensors").unlink()  # and labels alone may be another's
    assert "w.labels.txt: exists already" in one_line(run(*words(folder, tiny_spec)))


def test_what_makes_no_training_is_refused_first(run: Any, tiny_spec: Path, folder: Path) -> None:
    base = words(folder, tiny_spec)

    def refused(*changed: str | Path) -> str:
        message = one_line(run(*base, *changed))
        assert {path.name for path in folder.iterdir()} <= {"d", "r.toml", "bad.toml", "empty"}
        return message

    assert "no folders of classes" in refused("--data", folder / "d" / "level")
    assert "absent: does not exist" in refused("--data", folder / "absent")
    assert "expected a file's name that ends in .safetensors" in refused("-o", folder / "w.pth")
    (folder / "bad.toml").write_text("epoch = 3")
    assert "epoch: unknown key; did you mean epochs?" in refused("--recipe", folder / "bad.toml")
    assert "--resolution 3: expected from 8" in refused("--resolution", "3")
    assert "expected a share above 0, below 1" in refused("--val-share", "1.5")
    for threads in (str(len(usable_cpus()) + 1), "99999999999"):
        assert f"--threads {threads}: expected from 1 to" in refused("--threads", threads)
    (folder / "d" / "level" / "link.png").symlink_to("nothing")
    assert "level/link.png: cannot be read: No such file" in refused()
    (folder / "d" / "level" / "link.png").unlink()
    (folder / "d" / "level" / "003.png").write_bytes(b"")
    assert "level/003.png: empty" in refused()


def test_checkpoint_of_another_training(run: Any, tiny_spec: Path, folder: Path) -> None:
    (folder / "w.safetensors.checkpoint").write_bytes(b"something")
    assert "w.safetensors.checkpoint: not a checkpoint of effgen's" in one_line(run(*words(folder, tiny_spec)))


@pytest.mark.slow
def test_weights_compile_and_verify(run: Any, tiny_spec: Path, folder: Path) -> None:
    assert run(*words(folder, tiny_spec))[0] == 0
    given = ("--weights", folder / "w.safetensors", "--labels", folder / "w.labels.txt", "--classes", "2")
    code, _, _ = run("compile", "--spec", tiny_spec, *given, "-o", folder / "b")
    assert code == 0 and run("verify", folder / "b")[0] == 0
    code, out, _ = run("run", folder / "b", folder / "d" / "upright" / "000.png")
    assert code == 0 and "level" in out


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    words = [sys.executable, ROOT / "examples" / "digits.py", folder / "build" / "digits"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == f"1797 pictures in {folder / 'build' / 'digits'}\n"
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


@pytest.mark.slow
def test_digits_example(run: Any, digits: Path) -> None:
    """As docs/training.md has it."""
    example = ("--spec", ROOT / "examples" / "digits.toml", "--recipe", ROOT / "examples" / "digits_recipe.toml")
    given = ("--data", digits / "build" / "digits", "--threads", "1", "--json", "-")
    code, out, _ = run("train", *example, *given, "-o", digits / "w.safetensors")
    assert code == 0 and json.loads(out)["accuracy"] > 0.85


@pytest.mark.slow
def test_python_of_the_guide_runs(digits: Path) -> None:
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "training.md").read_text(), re.DOTALL)[-1]
    done = subprocess.run([sys.executable, "-c", code], cwd=digits, capture_output=True, text=True, check=True)
    accuracy, seconds = map(float, done.stdout.split())
    assert 0 < accuracy < 1 and seconds > 0


def test_digits_recipe() -> None:
    path = ROOT / "examples" / "digits_recipe.toml"
    assert not parse_recipe(path.read_text(), str(path)).augment.flip
