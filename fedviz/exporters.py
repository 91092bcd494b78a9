"""Writing one model's weights in the formats that other programs read.

A file appears complete or not at all.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
from numpy.lib import format as npy

from fedviz.errors import InvalidArgumentError
from fedviz.files import complete_or_absent

__all__ = ["NUMPY_FORMATS", "export_weights"]


def export_weights(path: Path, weights: Mapping[str, np.ndarray]) -> None:
    """Write weights as ``.npz`` or ``.safetensors``, whichever the name ends in.

    Parameters
    ----------
    path : Path
        An existing file is replaced when the new one is complete.
    weights : mapping of name to ndarray
        NumPy's format knows no bfloat16: in ``.npz`` such a tensor becomes float32, exactly.

    Raises
    ------
    InvalidArgumentError
        The name ends in something else.
    StorageError
        The file cannot be written.
    """
    write = NUMPY_FORMATS.get(path.suffix)
    if write is None:
        raise InvalidArgumentError(
            f"{path.name}: expected a name that ends in {', '.join(NUMPY_FORMATS)}."
        )
    with complete_or_absent(path) as temporary:
        write(temporary, weights)


def _write_npz(path: Path, weights: Mapping[str, np.ndarray]) -> None:
    # What numpy.savez() does, for names too that are parameters of it, such as "file".
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in weights.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                npy.write_array(file, _known_to_numpy(array), allow_pickle=False)  # type: ignore[no-untyped-call]


def _known_to_numpy(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype == ml_dtypes.bfloat16 else array


def _write_safetensors(path: Path, weights: Mapping[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    # ascontiguousarray makes a vector of a scalar.
    arrays = {n: np.ascontiguousarray(array).reshape(array.shape) for n, array in weights.items()}
    save_file(arrays, path)


NUMPY_FORMATS: Mapping[str, Callable[[Path, Mapping[str, np.ndarray]], None]] = {
    ".npz": _write_npz,
    ".safetensors": _write_safetensors,
}
"""How to write each format that needs no TensorFlow, by the ending of the name."""
