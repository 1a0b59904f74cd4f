"""Checkpoints of PyTorch: genuine ones, ones written by hand, damaged and hostile ones."""

from __future__ import annotations

import os
import pickle
import random
import zipfile

import ml_dtypes
import numpy as np
import pytest

from equiformer_jax.models.torch_file import TorchFileError, read_state_dict, read_torch_file
from tests import pickle_assembler as asm
from tests.fixtures import make_torch_files
from tests.fixtures.make_torch_files import LEGACY_FILE, ZIP_FILE

NUMBERS = asm.Storage("torch.FloatStorage", "0", np.arange(6, dtype=np.float32).tobytes(), 6)
MATRIX = asm.tensor(NUMBERS.mention(), (2, 3), (3, 1))
VECTOR = asm.tensor(NUMBERS.mention(), (2,), (3,), 1)


def assert_same(actual: dict, expected: dict):
    assert list(actual) == list(expected)
    for name, value in expected.items():
        assert (actual[name].dtype, actual[name].shape) == (value.dtype, value.shape), name
        np.testing.assert_array_equal(actual[name], value, err_msg=name)


# --- Genuine files ---


@pytest.mark.parametrize("path", [ZIP_FILE, LEGACY_FILE], ids=["zip", "legacy"])
def test_parameters_of_a_genuine_file(path):
    assert_same(read_state_dict(path), make_torch_files.parameters())


def test_everything_else_in_a_genuine_checkpoint():
    content = read_torch_file(ZIP_FILE)
    assert (content["epoch"], content["step"], content["amp"]) == (1.5, 300, None)
    assert content["config"]["task"] == {"dataset": "single_point_lmdb"}
    assert content["normalizers"]["target"]["std"] == np.float32(2.25)
    assert content["val_metrics"]["energy_mae"]["metric"] == 0.5
    assert content["scheduler"]["scheduler"]["milestones"] == {3: 1, 5: 1}
    np.testing.assert_array_equal(content["ema"]["shadow_params"][0], [1, 1])
    assert content["optimizer"]["param_groups"][0]["betas"] == (0.9, 0.999)
    assert content["optimizer"]["state"][0]["exp_avg"].shape == (1, 2)
    assert all(name.startswith("module.module.") for name in content["state_dict"])


def test_views_of_one_storage_share_memory():
    parameters = read_state_dict(ZIP_FILE)
    transposed = parameters["blocks.0.ga.transposed"]
    assert np.shares_memory(transposed, parameters["blocks.0.ga.column"])
    assert not transposed.flags.writeable


@pytest.mark.parametrize("path", [ZIP_FILE, LEGACY_FILE], ids=["zip", "legacy"])
def test_every_truncation_of_a_genuine_file_is_noticed(path, tmp_path):
    content = path.read_bytes()
    copy = tmp_path / "copy.pt"
    for length in [*range(300), *range(300, len(content), 37), len(content) - 1]:
        copy.write_bytes(content[:length])
        with pytest.raises(TorchFileError, match="copy.pt"):
            read_torch_file(copy)


@pytest.mark.parametrize("path", [ZIP_FILE, LEGACY_FILE], ids=["zip", "legacy"])
def test_damage_raises_nothing_else(path, tmp_path):
    content = path.read_bytes()
    copy = tmp_path / "copy.pt"
    generator = random.Random(0)
    refused = 0
    for _ in range(500):
        damaged = bytearray(content)
        for _ in range(generator.choice((1, 1, 3, 20))):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        copy.write_bytes(damaged)
        try:
            read_state_dict(copy)
        except TorchFileError as error:
            assert str(copy) in str(error)
            refused += 1
    assert refused > 100


# --- PyTorch itself, where it is installed ---


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_what_torch_writes(zipped, protocol, tmp_path):
    torch = pytest.importorskip("torch")
    base = torch.arange(24.0).reshape(2, 3, 4)
    attributed = torch.ones(2)
    attributed.note = "kept by PyTorch"
    tensors = {str(dtype): torch.arange(6).to(dtype) for dtype in torch_types(torch)}
    tensors |= {
        "permuted": base.permute(2, 0, 1),
        "slice": base[:, 1:, ::2],
        "flipped": base.flip(0),
        "expanded": torch.tensor([1.0, 2.0]).expand(3, 2),
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 5),
        "parameter": torch.nn.Parameter(base),
        "buffer": torch.nn.Buffer(base),
        "attributes": attributed,
    }
    value = {
        "state_dict": tensors,
        "others": [base.shape, base.device, base.dtype, torch.device("cuda:1"), np.arange(3)],
    }
    path = tmp_path / "written.pth"
    torch.save(value, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    actual = read_state_dict(path)
    assert list(actual) == list(tensors)
    for name, tensor in tensors.items():
        tensor = tensor.detach()
        if tensor.dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2):
            assert str(actual[name].dtype) == str(tensor.dtype).removeprefix("torch.")
            expected, found = tensor.float().numpy(), actual[name].astype(np.float32)
        else:
            expected, found = tensor.numpy(), actual[name]
        assert_same({name: found}, {name: expected})
    others = read_torch_file(path)["others"]
    assert others[:4] == [(2, 3, 4), "cpu", np.float32, "cuda:1"]
    np.testing.assert_array_equal(others[4], [0, 1, 2])


def torch_types(torch):
    names = "float64 float32 float16 bfloat16 float8_e4m3fn float8_e5m2 complex128 complex64"
    names += " int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool"
    return [getattr(torch, name) for name in names.split()]


def test_the_committed_files_are_those_of_the_script(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    for name in ("ZIP_FILE", "LEGACY_FILE"):
        monkeypatch.setattr(make_torch_files, name, tmp_path / name)
    make_torch_files.main()
    for name in ("ZIP_FILE", "LEGACY_FILE"):
        assert_same(read_state_dict(tmp_path / name), make_torch_files.parameters())


def test_a_module_saved_whole_is_refused_by_name(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pt")
    with pytest.raises(TorchFileError, match=r"whole\.pt: .*torch\.nn\.modules\.linear\.Linear"):
        read_torch_file(tmp_path / "whole.pt")


def test_torchscript_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))
    with pytest.raises(TorchFileError, match="TorchScript"):
        read_torch_file(tmp_path / "script.pt")


# --- Files written by hand ---


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.pt"


def test_both_formats_give_the_same(path):
    value = {"matrix": MATRIX, "vector": VECTOR}
    asm.write_archive(path, value, NUMBERS)
    expected = {"matrix": np.float32([[0, 1, 2], [3, 4, 5]]), "vector": np.float32([1, 4])}
    assert_same(read_torch_file(path), expected)
    path.write_bytes(asm.stream(value, NUMBERS))
    assert_same(read_torch_file(path), expected)


@pytest.mark.parametrize("folder", ["archive/", "my model/v1/", ""])
def test_any_folder_and_old_archives_without_byte_order(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{folder}data.pkl", asm.assemble([MATRIX]))
        archive.writestr(f"{folder}data/0", NUMBERS.contents)
        archive.writestr(f"{folder}version", "3\n")
    assert read_torch_file(path)[0].shape == (2, 3)


def test_compressed_entries_are_read(path):
    numbers = np.random.default_rng(0).random(6).astype(np.float32)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", asm.assemble([MATRIX]))
        archive.writestr("archive/data/0", numbers.tobytes())
    np.testing.assert_array_equal(read_torch_file(path)[0].ravel(), numbers)


def test_one_storage_of_bytes_with_two_types(path):
    as_bytes = NUMBERS._replace(kind="torch.ByteStorage", numel=24)
    value = [MATRIX, asm.tensor(as_bytes.mention(), (24,), (1,))]
    asm.write_archive(path, value, NUMBERS)
    numbers, contents = read_torch_file(path)
    assert numbers.tobytes() == contents.tobytes()


PLACES = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"epoch": 3, "state_dict": state},
    "model_state_dict": lambda state: {"model_state_dict": state, "optimizer_state_dict": {}},
    "model": lambda state: {"model": state, "args": asm.call("argparse.Namespace")},
    "before the average": lambda state: {"ema": {"a": VECTOR}, "state_dict": state},
    "average alone": lambda state: {"epoch": 3, "ema": {"state_dict": state, "decay": 0.9}},
    "nested": lambda state: {"model": {"state_dict": state, "name": "equiformer"}},
    "a parameter called model": lambda state: state | {"model": VECTOR},
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("prefix", ["", "module.", "module.module."])
def test_where_parameters_are_found(place, prefix, path):
    names = ["blocks.0.weight", "head.bias"]
    value = PLACES[place]({prefix + name: MATRIX for name in names})
    if place == "a parameter called model":
        names, prefix = [*value], ""
    asm.write_archive(path, value, NUMBERS)
    parameters = read_state_dict(path)
    if place == "a parameter called model":
        assert list(parameters) == names
    else:
        assert_same(parameters, dict.fromkeys(names, np.float32([[0, 1, 2], [3, 4, 5]])))


def test_a_prefix_that_not_all_share_stays(path):
    asm.write_archive(path, {"module.a": MATRIX, "b": MATRIX}, NUMBERS)
    assert list(read_state_dict(path)) == ["module.a", "b"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([MATRIX], "holds a list; expected a checkpoint"),
        ({}, "there are no parameters"),
        ({"state_dict": {}}, "entry state_dict: there are no parameters"),
        ({"epoch": 3, "weights": {"a": MATRIX}}, "without an entry state_dict, .*'epoch' is a int"),
        ({"state_dict": {"a": MATRIX, "b": [1]}}, "entry state_dict: 'b' is a list"),
        ({"state_dict": {3: MATRIX}}, "entry state_dict: 3 is a ndarray"),
        ({"ema": {"shadow_params": [MATRIX]}}, "entry ema: 'shadow_params' is a list"),
    ],
)
def test_files_without_parameters_say_what_they_hold(value, message, path):
    asm.write_archive(path, value, NUMBERS)
    with pytest.raises(TorchFileError, match=message) as caught:
        read_state_dict(path)
    assert str(path) in str(caught.value)


# --- Hostile and damaged files ---

HOSTILE = {
    "os.system": asm.call("os.system", "touch marker"),
    "builtins.eval": asm.call("builtins.eval", "open('marker', 'w')"),
    "builtins.getattr": asm.call(
        "builtins.getattr", asm.call("builtins.__import__", "os"), "popen"
    ),
    "torch.serialization.load": asm.call("torch.serialization.load", "other.pt"),
    "numpy.load": asm.call("numpy.load", "other.npy"),
    "torch.jit._unwrap_optional": asm.call("torch.jit._unwrap_optional", MATRIX),
    "torch.utils.data.Dataset": asm.call("torch.utils.data.Dataset"),
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_run_nothing_and_are_named(name, zipped, path, monkeypatch):
    monkeypatch.chdir(path.parent)
    nested = asm.call("torch._utils._rebuild_parameter", MATRIX, True, [asm.Code(HOSTILE[name])])
    value = {"state_dict": {"a": MATRIX, "b": nested}}
    if zipped:
        asm.write_archive(path, value, NUMBERS)
    else:
        path.write_bytes(asm.stream(value, NUMBERS))
    first = "builtins.getattr" if "getattr" in name else name
    with pytest.raises(
        TorchFileError, match=f"asks for {first}, which is not on the list"
    ) as caught:
        read_state_dict(path)
    assert str(path) in str(caught.value) and "state_dict()" in str(caught.value)
    assert os.listdir(path.parent) == [path.name]


def test_code_hidden_in_other_parts_of_the_stream(path):
    good = asm.stream([MATRIX], NUMBERS)
    bad = asm.assemble(HOSTILE["os.system"])
    for part in (asm.assemble(1001), asm.assemble(["0"])):
        assert part in good
        path.write_bytes(good.replace(part, bad))
        with pytest.raises(TorchFileError, match=r"asks for os\.system"):
            read_torch_file(path)


BROKEN_ARCHIVES = {
    "big-endian": ({"byteorder": b"big"}, "byte order b'big'"),
    "storage too short": ({"data/0": b"x" * 23}, "has 23 bytes; expected 24 for 6 float32"),
    "storage too long": ({"data/0": b"x" * 28}, "has 28 bytes; expected 24"),
    "two pickles": ({"more/data.pkl": b""}, "with 2 entries data.pkl"),
    "empty pickle": ({"data.pkl": b""}, "damaged pickle"),
    "TorchScript": ({"constants.pkl": b""}, "TorchScript"),
}


@pytest.mark.parametrize("name", BROKEN_ARCHIVES)
def test_broken_archives(name, path):
    entries, message = BROKEN_ARCHIVES[name]
    asm.write_archive(path, [MATRIX], NUMBERS, **entries)
    with pytest.raises(TorchFileError, match=message):
        read_torch_file(path)


def test_a_storage_that_is_not_there(path):
    asm.write_archive(path, [MATRIX])
    with pytest.raises(TorchFileError, match="no entry 'archive/data/0'"):
        read_torch_file(path)


def test_a_storage_outside_its_folder(path):
    outside = NUMBERS._replace(key="../../secret")
    asm.write_archive(path, [asm.tensor(outside.mention(), (6,), (1,))], NUMBERS)
    with pytest.raises(TorchFileError, match="no entry"):
        read_torch_file(path)


def test_a_storage_whose_checksum_is_wrong(path):
    asm.write_archive(path, [MATRIX], NUMBERS)
    content = path.read_bytes()
    path.write_bytes(content.replace(NUMBERS.contents, b"x" * len(NUMBERS.contents)))
    with pytest.raises(TorchFileError, match="truncated or damaged zip archive: Bad CRC-32"):
        read_torch_file(path)


def test_a_zip_bomb_is_not_unpacked(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", asm.assemble([MATRIX]))
        archive.writestr("archive/data/0", bytes(10**7))
    with pytest.raises(TorchFileError, match="larger than the file"):
        read_torch_file(path)


OTHER_FILES = {
    "empty": (b"", "is empty"),
    "text": (b"weights: none\n", "a file that starts with b'weights:'"),
    "pickle": (pickle.dumps({"a": 1}), "a pickle that torch.save did not write"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
    "gzip": (b"\x1f\x8b\x08" + bytes(100), "a gzip file"),
    "tar": (bytes(257) + b"ustar\x0000" + bytes(300), "PyTorch before 0.4"),
    "start of a zip file": (b"PK\x03", "is truncated"),
    "start of a stream": (b"\x80\x02\x8a", "is truncated"),
}


@pytest.mark.parametrize("name", OTHER_FILES)
def test_other_files_are_recognized(name, path):
    content, message = OTHER_FILES[name]
    path.write_bytes(content)
    with pytest.raises(TorchFileError, match=message) as caught:
        read_torch_file(path)
    assert str(path) in str(caught.value)


def test_numpy_archives_are_recognized(tmp_path):
    np.savez(tmp_path / "weights.npz", a=np.zeros(3))
    with pytest.raises(TorchFileError, match="a zip archive with 0 entries data.pkl"):
        read_torch_file(tmp_path / "weights.npz")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.pt"):
        read_torch_file(tmp_path / "nowhere.pt")


def test_bfloat16_keeps_its_type():
    assert read_state_dict(ZIP_FILE)["bfloat16"].dtype == ml_dtypes.bfloat16
