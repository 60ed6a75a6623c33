"""Files that are no checkpoint, or another network's: refused in one line that names what does not fit."""

from __future__ import annotations

import os
import pickle
import re
import resource
import warnings
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import FOREIGN, in_torchvision_names, message_of
from safetensors.torch import save_file

from effgen.driver import export_network
from effgen.errors import WeightsError
from effgen.graph import Graph
from effgen.network import NetworkRequest
from effgen.network.checkpoints import load_checkpoint
from effgen.network.weight_sets import WeightsChoice, renames_from_texts


def test_files_that_are_not_there(tmp_path: Path, graph: Graph) -> None:
    assert message_of(tmp_path / "none.pth", graph) == "cannot read the checkpoint: No such file or directory"
    (tmp_path / "folder.pth").mkdir()
    assert message_of(tmp_path / "folder.pth", graph) == "cannot read the checkpoint: Is a directory"


class RunsCode:
    """Unpickling it would create a file."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.witness),)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", ["truncated", "no tail", "text", "pickle"])
def test_damaged_files(tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor], kind: str, suffix: str) -> None:
    path = tmp_path / f"bad{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(tensors, path)
    whole = path.read_bytes()
    contents = {
        "truncated": whole[: len(whole) // 2],
        "no tail": whole[:-4],
        "text": b"hello, this is no checkpoint\n" * 9,
        "pickle": pickle.dumps({"a": 1}),
    }
    path.write_bytes(contents[kind])
    expected = "not a safetensors file" if suffix == ".safetensors" else "not a PyTorch checkpoint"
    assert message_of(path, graph).startswith(f"{expected}, or damaged or cut short")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".bin"])
@pytest.mark.parametrize(("data", "message"), FOREIGN, ids=[message[:20] for _, message in FOREIGN])
def test_foreign_files_are_named(tmp_path: Path, graph: Graph, data: bytes, message: str, suffix: str) -> None:
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(data)
    assert message_of(path, graph).startswith(f"is {message}")


def test_an_onnx_model(tmp_path: Path, graph: Graph) -> None:
    export_network(NetworkRequest(), tmp_path / "a.onnx", None, 0, True, False)
    assert message_of(tmp_path / "a.onnx", graph) == ("is an ONNX model: give it as --onnx, without --spec and --phi")


def test_python_objects_are_not_loaded(tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor]) -> None:
    path, witness = tmp_path / "evil.pth", tmp_path / "witness"
    for content in ({"state_dict": RunsCode(witness)}, {"state_dict": tensors, "args": RunsCode(witness)}):
        for legacy in (False, True):
            torch.save(content, path, _use_new_zipfile_serialization=not legacy)
            assert message_of(path, graph).startswith("holds a Python object (posix.mkdir), which is not loaded")
            assert not witness.exists()
    torch.save({"state_dict": torch.nn.ReLU}, path)
    assert message_of(path, graph).startswith("holds no tensors (but 'state_dict')")
    torch.save({"state_dict": Namespace(a=1)}, path)
    assert message_of(path, graph) == (
        "state_dict: holds a Python object (argparse.Namespace), which is not loaded because that can run code: "
        "expected tensors; save model.state_dict() instead"
    )


@pytest.mark.filterwarnings("ignore:`torch.jit.trace")  # PyTorch 2.14's, and one may have such a file
def test_a_torchscript_archive(tmp_path: Path, graph: Graph) -> None:
    path = tmp_path / "script.pt"
    torch.jit.trace(torch.nn.ReLU(), torch.zeros(1)).save(path)
    assert message_of(path, graph) == (
        "is a TorchScript archive, which is a program: save model.state_dict() with torch.save instead"
    )


def test_contents_that_are_no_state_dict(tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "a.pth"

    def message(content: Any) -> str:
        torch.save(content, path)
        return message_of(path, graph)

    assert message([1, 2]) == "holds list: expected a dictionary of tensors"
    assert message({"stem.conv.weight": 3}).startswith("holds no tensors (but 'stem.conv.weight')")
    assert message(tensors | {"head.norm.weight": 3}).startswith("'head.norm.weight' holds int: expected names with")
    assert message({5: torch.zeros(1)}).startswith("holds 5: expected the names of one of")
    assert message(tensors | {"stem.conv.weight": torch.zeros(3, dtype=torch.int8)}) == (
        "stem.conv.weight is I8: expected F32, F16, BF16 or F64"
    )
    assert message({}).startswith("holds nothing: expected the names of one of torchvision (features.0.0.weight, ")
    assert message({"b": torch.zeros(1), "a": torch.zeros(1)}).startswith("holds a, b: expected")
    assert message({"b": torch.zeros(1)}).endswith(
        "; --rename OLD=NEW makes others fit, and --onnx takes any network's ONNX export"
    )
    assert message(tensors | {"conv_stem.weight": torch.zeros(1)}).startswith("holds names of timm and effgen: ")


def test_several_sets_of_weights(tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "a.pth"
    torch.save({"generator": tensors, "classifier": dict(tensors)}, path)
    assert message_of(path, graph) == (
        "holds several sets of weights (classifier, generator): say which by --weights-key NAME"
    )
    assert message_of(path, graph, WeightsChoice("generater")) == (
        "--weights-key generater: expected one of its sets of weights; did you mean generator? "
        "known: classifier, generator"
    )


def test_renames_that_change_nothing_or_too_much(
    tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor]
) -> None:
    path = tmp_path / "a.pth"
    torch.save(tensors, path)
    assert message_of(path, graph, WeightsChoice(renames=(("^net", ""),))) == (
        "--rename ^net=: matches no name; the file's are classifier.bias, classifier.weight, head.conv.weight, ..."
    )
    assert message_of(path, graph, WeightsChoice(renames=(("weight|bias", "x"),))).startswith(
        "--rename: two entries become "
    )


@pytest.mark.parametrize("text", ["abc", "=new", "(=x", r"a=\2"])
def test_renames_that_are_none(text: str) -> None:
    with pytest.raises(WeightsError, match=re.escape(f"--rename {text}: ")):
        renames_from_texts([text])


def test_integers_in_safetensors(tmp_path: Path, graph: Graph) -> None:
    save_file({"stem.conv.weight": torch.zeros(3, dtype=torch.int64)}, tmp_path / "a.safetensors")
    assert message_of(tmp_path / "a.safetensors", graph) == ("stem.conv.weight is I64: expected F32, F16, BF16 or F64")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_values_that_are_no_numbers(
    tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor], value: float, suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    tensors["head.conv.weight"] = tensors["head.conv.weight"].double()
    tensors["head.conv.weight"].view(-1)[:2] = value
    (save_file if suffix == ".safetensors" else torch.save)(tensors, path)
    assert message_of(path, graph) == (
        "head.conv.weight holds 2 values that are NaN or beyond float32: expected numbers"
    )


def test_negative_variances(tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor]) -> None:
    tensors["stem.norm.running_var"][3] = -0.5
    save_file(tensors, tmp_path / "a.safetensors")
    assert message_of(tmp_path / "a.safetensors", graph) == (
        "stem.norm.running_var holds -0.5: expected variances of 0 or more"
    )


def test_all_that_does_not_fit_is_one_line(tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "a.safetensors"
    for name in ("stem.norm.weight", "stem.norm.bias", "stem.norm.running_mean", "stem.norm.running_var"):
        del tensors[name]
    tensors["stem.bn.weight"] = torch.zeros(8)
    tensors["head.norm.bias"] = torch.zeros(3)
    save_file(tensors, path)
    assert message_of(path, graph) == (
        "does not fit tiny (effgen names): "
        "4 missing: stem.norm.weight, stem.norm.bias, stem.norm.running_mean and 1 more; "
        "1 surplus: stem.bn.weight; "
        "1 misshapen: head.norm.bias (3,), expected (32,)"
    )


def test_misshapen_tensors_are_named_as_in_the_file(
    tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor]
) -> None:
    tensors["head.norm.bias"] = torch.zeros(3)
    save_file(in_torchvision_names(tensors), tmp_path / "a.safetensors")
    assert message_of(tmp_path / "a.safetensors", graph).endswith(
        "1 misshapen: features.4.1.bias (3,), expected (32,); no shipped network fits: write a spec for it "
        "(docs/write-a-spec.md), or give its ONNX export as --onnx"
    )


def test_a_tensor_of_another_shape_is_not_made_large(
    tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor]
) -> None:
    """A number stretched over 2^59 places: nothing looks at them before the shape."""
    path, name = tmp_path / "a.pth", "head.conv.weight"
    for legacy in (False, True):
        stretched = torch.zeros(1).expand(2**39, 2**20)
        torch.save({**tensors, name: stretched}, path, _use_new_zipfile_serialization=not legacy)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert f"{name} (549755813888, 1048576), expected (32, 24, 1, 1)" in message_of(path, graph)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**17  # KiB


def test_one_number_for_a_whole_layer_is_no_other_network(
    tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor]
) -> None:
    path, name = tmp_path / "a.pth", "head.conv.weight"
    torch.save({**tensors, name: torch.full((1,), 0.5).expand(tensors[name].shape)}, path)
    assert (load_checkpoint(path, graph).weights[name] == 0.5).all()


def quantised() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are to go
        return torch.quantize_per_tensor(torch.zeros(32, 24, 1, 1), 0.1, 0, torch.qint8)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.empty((32, 24, 1, 1), device="meta"), "'head.conv.weight' holds torch._utils._rebuild_meta_tensor"),
        (torch.zeros(32, 24, 1, 1).to_sparse(), "'head.conv.weight' holds torch._utils._rebuild_sparse_tensor"),
        (quantised(), "'head.conv.weight' holds torch._utils._rebuild_qtensor"),
        (torch.zeros((32, 24, 1, 1), dtype=torch.complex64), "head.conv.weight is C64: expected F32"),
        (torch.zeros((32, 24, 1, 1), dtype=torch.float8_e5m2), "head.conv.weight is F8_E5M2: expected F32"),
        (torch.zeros((32, 24, 1, 1), dtype=torch.bool), "head.conv.weight is BOOL: expected F32"),
    ],
    ids=["meta", "sparse", "quantised", "complex", "float8", "bool"],
)  # fmt: skip
def test_tensors_that_hold_no_weights(
    tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor], tensor: torch.Tensor, message: str
) -> None:
    torch.save({**tensors, "head.conv.weight": tensor}, tmp_path / "a.pth")
    assert message_of(tmp_path / "a.pth", graph).startswith(message)


def test_sets_without_end(tmp_path: Path, graph: Graph) -> None:
    torch.save({f"a{i}.stem.conv.weight": torch.zeros(1) for i in range(99)}, tmp_path / "a.pth")
    assert message_of(tmp_path / "a.pth", graph).startswith("holds 99 sets of weights beside each other: expected at")


def test_counts_that_are_none(tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor]) -> None:
    for count in (torch.tensor(float("nan")), torch.tensor(1 + 1j), torch.tensor(True)):
        torch.save({**tensors, "stem.norm.num_batches_tracked": count}, tmp_path / "a.pth")
        assert load_checkpoint(tmp_path / "a.pth", graph).left_out == ()
