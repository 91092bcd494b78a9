"""Files that lie, break off or hold something else: one line that names the file, at once."""

import contextlib
import io
import json
import pickle
import stat
import struct
import zipfile

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from fedviz.errors import DatasetFormatError
from fedviz.importers import hdf5
from tests.importers.keras_layouts import (
    BIAS,
    KERNEL,
    layer,
    write_keras_archive,
    write_keras_hdf5,
    write_store,
)
from tests.importers.opened import opened


def npz(path, **arrays):
    # NumPy adds .npz to a path that ends otherwise.
    with path.open("wb") as file:
        np.savez(file, **(arrays or {"kernel": KERNEL, "bias": BIAS}))
    return path


def npy_bytes(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def keras_hdf5(path, **arrays):
    weights = arrays or {"kernel": KERNEL, "bias": BIAS}
    return write_keras_hdf5(path, {"dense": {f"dense/{k}:0": v for k, v in weights.items()}})


def store(path):
    write_store(path, {"layers/dense": [KERNEL, BIAS]})
    return path


def keras_archive(path):
    return write_keras_archive(path, [layer("Dense", "d")], {"layers/dense": [KERNEL, BIAS]})


def safetensors(path):
    save_file({"kernel": KERNEL, "bias": BIAS}, path)
    return path


WRITERS = [npz, keras_hdf5, store, keras_archive, safetensors]


def refusal(path):
    with pytest.raises(DatasetFormatError) as caught:
        opened(path)
    message = str(caught.value)
    assert message.startswith(path.name)
    assert "\n" not in message
    assert len(message) < 700
    return message


# --- wrong extensions -------------------------------------------------------------------------


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("ending", [".h5", ".npz", ".safetensors", ".keras", ".pt", ".txt", ""])
def test_the_content_counts_and_not_the_extension(tmp_path, write, ending):
    path = write(tmp_path / "right.weights.h5")
    found = opened(path.rename(tmp_path / f"w{ending}"))
    kernels = [array for name, array in found.arrays.items() if "kernel" in name]
    np.testing.assert_array_equal(kernels, [KERNEL])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.h5", b"", "w.h5: expected HDF5, found an empty file"),
        ("w.h5", b"hello", "w.h5: expected HDF5, found a text"),
        ("w.weights.h5", b"\x1f\x8b\x08\x00", "found a gzip file; unpack it first"),
        ("w.npz", b"<!DOCTYPE html>", "expected an .npz file of numpy.savez, found a web page"),
        ("w.safetensors", b"version https://git-lfs.github.com", "found a Git LFS pointer"),
        ("w.keras", b"\x00\xff\x13\x37", "expected a .keras archive of Keras, found another kind"),
        ("ckpt.data-00000-of-00001", b"\x00" * 40, "a part of a TensorFlow checkpoint; name its"),
        ("w", b"{}", "w: expected weights, found a text"),
    ],
)
def test_what_is_none_of_the_kinds_is_said(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    assert message in refusal(tmp_path / name)


# --- pickles ----------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


@pytest.mark.parametrize("name", ["w.pt", "w.pkl", "w.h5", "w"])
@pytest.mark.parametrize("protocol", [2, 5])
def test_a_pickle_is_refused_with_the_way_out(tmp_path, name, protocol):
    (tmp_path / name).write_bytes(pickle.dumps(Bomb(), protocol))
    message = refusal(tmp_path / name)
    assert "a pickle may run code when it is read, and is never opened" in message
    assert "torch.load(path, weights_only=True); safetensors.torch.save_file(weights" in message


def test_a_zip_of_torch_is_a_pickle(tmp_path):
    with zipfile.ZipFile(tmp_path / "client.ckpt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb()))
        archive.writestr("archive/data/0", KERNEL.tobytes())
    assert "a pickle may run code" in refusal(tmp_path / "client.ckpt")


def test_a_pickle_of_the_oldest_protocol_is_known_by_its_extension(tmp_path):
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(Bomb(), 0))
    assert "a pickle may run code" in refusal(tmp_path / "w.pkl")


def test_object_arrays_are_refused_with_the_way_out(tmp_path):
    bomb = np.array([Bomb(), None], object)
    np.save(tmp_path / "w.npy", bomb, allow_pickle=True)
    np.savez(tmp_path / "w.npz", kernel=KERNEL, bomb=bomb)
    for path, tensor in ((tmp_path / "w.npy", "arr_0"), (tmp_path / "w.npz", "bomb")):
        message = refusal(path)
        assert f"{path.name}, tensor {tensor}: expected numbers, found Python objects" in message
        assert "numpy.savez(path, *arrays), or safetensors.numpy.save_file" in message


# --- truncated --------------------------------------------------------------------------------


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_file_that_is_cut_short(tmp_path, write, share):
    path = write(tmp_path / "client7.file")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "copy" in refusal(path).lower() or "expected weights, found" in refusal(path)


@pytest.mark.parametrize("write", [npz, keras_archive, safetensors])
def test_any_damaged_byte_is_found_or_harmless(tmp_path, write):
    """Every 7th byte is inverted in turn; values may change, but nothing else may happen."""
    path = write(tmp_path / "w.file")
    content = path.read_bytes()
    for at in range(0, len(content), 7 if len(content) < 5000 else 97):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        with contextlib.suppress(DatasetFormatError):
            assert {array.shape for array in opened(path).arrays.values()} <= {(2, 3), (3,)}


@pytest.mark.parametrize("searched", [8, 4096, 2**22])
def test_texts_that_hdf5_would_look_for_without_an_end(tmp_path, monkeypatch, searched):
    """Keras 2.14 writes names of variable length; one wrong byte, and HDF5 loops for ever."""
    monkeypatch.setattr(hdf5, "_SEARCHED_BYTES", searched)
    path = keras_hdf5(tmp_path / "w.h5")
    with h5py.File(path, "r+") as file:
        file.attrs.create("layer_names", ["dense"], dtype=h5py.string_dtype())
    assert opened(path).names == ["dense/kernel", "dense/bias"]
    content = bytearray(path.read_bytes())
    at = content.index(b"GCOL\x01") + 16
    while content[at] != 0:
        (length,) = struct.unpack_from("<Q", content, at + 8)
        at += 16 + -(-length // 8) * 8
    # Object 0 is the free space: of no size, it is followed by itself.
    struct.pack_into("<Q", content, at + 8, 0)
    path.write_bytes(content)
    assert "w.h5: damaged: the texts at byte" in refusal(path)


# --- archives that lie ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["/etc/cron.d/x.npy", "../../x.npy", "a/../../x.npy", "C:\\x.npy", "..\\x.npy"]
)
def test_names_that_lead_out_of_a_zip(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), npy_bytes(KERNEL))
    assert "its name leads out of the archive; pack it anew" in refusal(tmp_path / "w.npz")
    assert list(tmp_path.iterdir()) == [tmp_path / "w.npz"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_names_in_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        for _ in range(2):
            archive.writestr("kernel.npy", npy_bytes(KERNEL))
    message = refusal(tmp_path / "w.npz")
    assert "member kernel.npy: the name is used by more than one member" in message


def test_links_in_a_zip(tmp_path):
    link = zipfile.ZipInfo("kernel.npy")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    assert "member kernel.npy: it is a link" in refusal(tmp_path / "w.npz")


def test_a_zip_bomb_by_what_it_declares(tmp_path):
    zeros = np.zeros(75_000_000, np.float32)
    np.savez_compressed(tmp_path / "w.npz", kernel=zeros)
    assert (tmp_path / "w.npz").stat().st_size < 400_000
    assert "it would unpack to 300,000,128 bytes" in refusal(tmp_path / "w.npz")


def test_a_zip_bomb_that_declares_less_than_it_unpacks_to(tmp_path):
    path = tmp_path / "w.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("kernel.npy", npy_bytes(np.zeros(10_000_000, np.float32)))
    content = bytearray(path.read_bytes())
    size = struct.pack("<I", 40_000_128)
    for at in (content.find(size), content.rfind(size)):
        content[at : at + 4] = struct.pack("<I", 200)
    path.write_bytes(content)
    assert "the archive is damaged or cut short: cannot read tensor kernel" in refusal(path)


def test_a_zip_whose_members_overlap(tmp_path):
    path = tmp_path / "w.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a.npy", "b.npy", "c.npy"):
            archive.writestr(name, npy_bytes(np.zeros(10_000, np.float32)))
        central = archive.infolist()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", npy_bytes(np.zeros(10_000, np.float32)))
        first = archive.infolist()[0]
        for member in central[1:]:
            member.header_offset, member.CRC = first.header_offset, first.CRC
            archive.filelist.append(member)
    assert "its members overlap" in refusal(path)


def test_a_zip_in_a_zip_is_no_weights_file(tmp_path):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("client.h5", b"x")
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        archive.writestr("inner.zip", inner.getvalue())
    assert "found a zip of files; unpack it and name one" in refusal(tmp_path / "w.zip")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_compression_is_refused(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "w.npz", "w", method) as archive:
        archive.writestr("kernel.npy", npy_bytes(KERNEL))
    assert "expected it stored or deflated" in refusal(tmp_path / "w.npz")


# --- what cannot be a weight ------------------------------------------------------------------

UNFIT = {
    "structured": (np.zeros(3, [("a", "f4"), ("b", "i4")]), "with the fields a, b cannot be a"),
    "text": (np.array([b"one", b"two"]), "dtype text cannot be a weight; save the file without it"),
    "complex": (np.zeros(3, np.complex64), "dtype complex64 cannot be .*real and the imaginary"),
}


@pytest.mark.parametrize("write", [npz, keras_hdf5])
@pytest.mark.parametrize("kind", UNFIT)
def test_dtypes_that_cannot_be_weights(tmp_path, write, kind):
    array, message = UNFIT[kind]
    path = write(tmp_path / "w.file", good=KERNEL, odd=array)
    with pytest.raises(DatasetFormatError, match=rf"w\.file, tensor (dense/)?odd: .*{message}"):
        opened(path)


def test_dates_long_doubles_unicode_and_nameless_bytes(tmp_path):
    for array, message in (
        (np.array(["2020-01-01"], "M8[D]"), "dtype datetime64"),
        (np.zeros(3, np.longdouble), "dtype float128 cannot be a weight; expected one of float16"),
        (np.array(["é"]), "dtype text cannot be a weight"),
        (np.zeros(3, "V2"), "bfloat16 loses its name in this format; save as .safetensors"),
    ):
        assert message in refusal(npz(tmp_path / "w.npz", odd=array))


def test_texts_and_references_of_variable_length_in_hdf5(tmp_path):
    for dtype, message in (
        (h5py.string_dtype(), "dtype text cannot be a weight"),
        (h5py.vlen_dtype("f4"), "found Python objects"),
        (h5py.ref_dtype, "found Python objects"),
    ):
        path = keras_hdf5(tmp_path / "w.h5")
        with h5py.File(path, "r+") as file:
            del file["dense/dense/bias:0"]
            file["dense"].create_dataset("dense/bias:0", (1,), dtype)
        assert message in refusal(path)


# --- counts and names -------------------------------------------------------------------------


def test_no_tensors(tmp_path):
    np.savez(tmp_path / "w.npz")
    save_file({}, tmp_path / "w.safetensors")
    h5py.File(tmp_path / "w.h5", "w").close()
    write_store(tmp_path / "o.h5", {"optimizer": [KERNEL]})
    for name in ("w.npz", "w.safetensors", "w.h5"):
        assert refusal(tmp_path / name) == (
            f"{name}: expected weights, found no tensors; save the model anew"
        )
    assert "(left out: optimizer/vars/0, optimizer state)" in refusal(tmp_path / "o.h5")


def write_zip_of_nothing(path, count):
    """Local headers are left out but for the first: zipfile would take seconds to write them."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("t0.npy", b"")
    one = path.read_bytes()
    directory, end = one.index(b"PK\x01\x02"), one.index(b"PK\x05\x06")
    entry = one[directory:end]
    entries = b"".join(entry.replace(b"t0.npy", b"%06d" % i) for i in range(count))
    record = struct.pack(
        "<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, count, count, len(entries), directory
    )
    locator = struct.pack("<IIQI", 0x07064B50, 0, directory + len(entries), 1)
    last = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    path.write_bytes(one[:directory] + entries + record + locator + last)
    with zipfile.ZipFile(path) as archive:
        assert len(archive.infolist()) == count


def test_100_000_tensors_are_refused(tmp_path):
    count = 100_000
    header = json.dumps(
        {f"t{i}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(count)}
    ).encode()
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    write_zip_of_nothing(tmp_path / "w.npz", count)
    names = np.array([f"t{i}".encode() for i in range(count)])
    with h5py.File(tmp_path / "w.h5", "w", libver="latest") as file:
        file.attrs["layer_names"] = [b"dense"]
        for i, chunk in enumerate(np.array_split(names, 20)):
            file.require_group("dense").attrs[f"weight_names{i}"] = chunk
    for name in ("w.safetensors", "w.npz", "w.h5"):
        assert "expected at most 20,000 tensors" in refusal(tmp_path / name).replace(
            "an archive of at most 20,000 files", "at most 20,000 tensors"
        )


def test_a_name_of_70_kb(tmp_path):
    name = "n" * 70_000
    save_file({name: KERNEL}, tmp_path / "w.safetensors")
    message = refusal(tmp_path / "w.safetensors")
    assert "(70,000 characters): expected a name of 1 to 1,024 characters" in message


def test_a_name_that_says_something_else_to_a_terminal(tmp_path):
    save_file({"\x1b[2Jkernel\nbias": np.zeros(3, np.float32)}, tmp_path / "w.safetensors")
    header = json.dumps({"a\nb": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}})
    (tmp_path / "w.safetensors").write_bytes(
        struct.pack("<Q", len(header)) + header.encode() + b"\0"
    )
    assert r"tensor a\nb: dtype F8_E4M3" in refusal(tmp_path / "w.safetensors")
