"""Data to train on: scikit-learn's digits, or the user's own ``.npz`` file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedviz.errors import DatasetFormatError, InvalidArgumentError, UnknownNameError, located
from fedviz.importers.npz import read_npz

__all__ = ["DIGITS", "TrainingData", "fit_to", "load_data"]

DIGITS = "digits"
CLASSIFICATION = "classification"
REGRESSION = "regression"

_DIGITS_HELD_OUT = 360
_SHARE_HELD_OUT = 0.2


@dataclass(frozen=True)
class TrainingData:
    """Examples to train on and examples that are held out.

    Parameters
    ----------
    name : str
        ``digits``, or the file's name.
    task : str
        ``classification`` or ``regression``.
    x_train, x_test : ndarray of shape (n, *feature_shape), float32
        Features.
    y_train, y_test : ndarray of shape (n,) int64, or (n, outputs) float32
        Labels from 0 on, or the targets of a regression.
    client_ids : ndarray of shape (n,), optional
        The client of each training example, where the data names one.
    num_classes : int, optional
        One more than the highest label; None for a regression.
    """

    name: str
    task: str
    x_train: NDArray[np.float32]
    y_train: NDArray[Any]
    x_test: NDArray[np.float32]
    y_test: NDArray[Any]
    client_ids: NDArray[Any] | None
    num_classes: int | None

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Shape of one example's features."""
        return self.x_train.shape[1:]


def load_data(spec: str, seed: int = 0) -> TrainingData:
    """The data that ``spec`` names.

    ``digits`` are 1797 real images of 8 × 8 pixels in 10 classes, scaled to 0 to 1, of which
    360 are held out, as many of each class as its share. They are the same whatever the seed,
    so that accuracies compare.

    Parameters
    ----------
    spec : str
        ``digits``, or the path of an ``.npz`` file with ``x`` of shape (n, ...), ``y`` of shape
        (n,) (integers: classes from 0 on; real numbers: targets of a regression, also (n, k)),
        and, where it has them, ``client_ids`` (or ``clients``) of shape (n,), ``x_test`` and
        ``y_test``. Without these a fifth of the examples is held out, by class where there are
        classes. Features become float32; unsigned bytes are read as pixels and divided by 255.
    seed : int
        Chooses which examples of a file are held out.

    Raises
    ------
    UnknownNameError
        No built-in data and no ``.npz`` file.
    StorageError, DatasetFormatError
        The file cannot be read, or its arrays do not fit one another: lengths, kinds, values
        that are not finite, negative labels, no examples.

    References
    ----------
    Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998.
    """
    if spec == DIGITS:
        return _load_digits()
    if not spec.endswith(".npz"):
        raise UnknownNameError(
            f"there is no data {spec!r}; there is {DIGITS}, or give the path of an .npz file "
            "with x and y"
        )
    return _load_file(spec, seed)


def fit_to(data: TrainingData, input_shape: tuple[int, ...], outputs: int) -> TrainingData:
    """The data in the shape that a model takes.

    Parameters
    ----------
    data : TrainingData
        What is to be fitted.
    input_shape : tuple of int
        The model's input without the batch. Features of as many values are reshaped:
        64 to 8 × 8 × 1.
    outputs : int
        The model's outputs: at least as many as classes, or one for each target.

    Raises
    ------
    InvalidArgumentError
        The features have another size, a label is beyond the outputs, or there are other targets.
    """
    if math.prod(data.feature_shape) != math.prod(input_shape):
        raise InvalidArgumentError(
            f"{data.name}: the model takes inputs of shape {list(input_shape)}, and the data's "
            f"features have shape {list(data.feature_shape)}; choose a model or data that fits"
        )
    _check_outputs(data, outputs)
    return dataclasses.replace(
        data,
        x_train=data.x_train.reshape(-1, *input_shape),
        x_test=data.x_test.reshape(-1, *input_shape),
    )


def _check_outputs(data: TrainingData, outputs: int) -> None:
    if data.num_classes is not None and data.num_classes > outputs:
        raise InvalidArgumentError(
            f"{data.name}: the model has {outputs} outputs, and the data has labels up to "
            f"{data.num_classes - 1}; it needs {data.num_classes} outputs"
        )
    if data.num_classes is None and data.y_train.shape[1] != outputs:
        raise InvalidArgumentError(
            f"{data.name}: the model has {outputs} outputs, and the data has "
            f"{data.y_train.shape[1]} targets for each example"
        )


def _load_digits() -> TrainingData:
    # scikit-learn takes a second to import, which the partitions' picture need not wait for.
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x / 16.0).astype(np.float32).reshape(-1, 8, 8)
    y = y.astype(np.int64)
    held_out = _stratified(y, _DIGITS_HELD_OUT, np.random.default_rng(0))
    return TrainingData(
        DIGITS, CLASSIFICATION, x[~held_out], y[~held_out], x[held_out], y[held_out], None, 10
    )


def _load_file(path: str, seed: int) -> TrainingData:
    arrays = read_npz(path)
    x, y = _examples(path, arrays, "x", "y")
    clients = _client_ids(path, arrays, len(x))
    if "x_test" in arrays or "y_test" in arrays:
        x_test, y_test = _examples(path, arrays, "x_test", "y_test")
        _check_same_kind(path, x, y, x_test, y_test)
        return _training_data(path, x, y, x_test, y_test, clients)
    held_out = _held_out(path, y, seed)
    clients = None if clients is None else clients[~held_out]
    return _training_data(path, x[~held_out], y[~held_out], x[held_out], y[held_out], clients)


def _training_data(
    path: str,
    x: NDArray[Any],
    y: NDArray[Any],
    x_test: NDArray[Any],
    y_test: NDArray[Any],
    clients: NDArray[Any] | None,
) -> TrainingData:
    classes = y.dtype == np.int64
    return TrainingData(
        name=Path(path).name,
        task=CLASSIFICATION if classes else REGRESSION,
        x_train=x,
        y_train=y,
        x_test=x_test,
        y_test=y_test,
        client_ids=clients,
        num_classes=int(max(y.max(), y_test.max())) + 1 if classes else None,
    )


def _examples(
    path: str, arrays: Mapping[str, NDArray[Any]], x_name: str, y_name: str
) -> tuple[NDArray[Any], NDArray[Any]]:
    for name in (x_name, y_name):
        if name not in arrays:
            found = ", ".join(arrays) or "nothing"
            raise _refused(path, name, f"expected such an array, found {found}")
    x, y = arrays[x_name], arrays[y_name]
    if x.ndim == 0 or y.ndim == 0 or len(x) == 0:
        raise _refused(path, x_name, "expected at least one example, found none")
    if len(x) != len(y):
        raise _refused(path, y_name, f"expected {len(x)} of them, one for each x, found {len(y)}")
    return _features(path, x_name, x), _targets(path, y_name, y)


def _features(path: str, name: str, x: NDArray[Any]) -> NDArray[np.float32]:
    _check_numbers(path, name, x)
    if x.ndim == 1:
        x = x[:, None]
    return x.astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else x.astype(np.float32)


def _targets(path: str, name: str, y: NDArray[Any]) -> NDArray[Any]:
    _check_numbers(path, name, y)
    if np.issubdtype(y.dtype, np.floating):
        return y.reshape(len(y), -1).astype(np.float32)
    if y.size != len(y):
        raise _refused(
            path,
            name,
            f"expected one label for each example, found shape {list(y.shape)}; if it is one-hot, "
            "save y.argmax(axis=1)",
        )
    labels = y.reshape(len(y)).astype(np.int64)
    if labels.min() < 0:
        raise _refused(path, name, f"expected labels from 0 on, found {labels.min()}")
    return labels


def _check_numbers(path: str, name: str, array: NDArray[Any]) -> None:
    if array.dtype.kind not in "biuf":
        raise _refused(path, name, f"expected numbers, found {array.dtype}")
    if not np.isfinite(array).all():
        count = int(np.count_nonzero(~np.isfinite(array)))
        raise _refused(path, name, f"expected finite numbers, found {count:,} NaN or infinite")


def _client_ids(path: str, arrays: Mapping[str, NDArray[Any]], n: int) -> NDArray[Any] | None:
    names = [name for name in ("client_ids", "clients") if name in arrays]
    if not names:
        return None
    ids = arrays[names[0]]
    if ids.shape != (n,):
        raise _refused(path, names[0], f"expected shape [{n}], found {list(ids.shape)}")
    return ids


def _check_same_kind(
    path: str, x: NDArray[Any], y: NDArray[Any], x_test: NDArray[Any], y_test: NDArray[Any]
) -> None:
    for name, train, test in (("x_test", x, x_test), ("y_test", y, y_test)):
        if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
            raise _refused(
                path,
                name,
                f"expected examples of {train.dtype.name}{list(train.shape[1:])} as in training, "
                f"found {test.dtype.name}{list(test.shape[1:])}",
            )


def _held_out(path: str, y: NDArray[Any], seed: int) -> NDArray[np.bool_]:
    if len(y) < 2:
        raise _refused(path, "x", "expected at least 2 examples, one to hold out, found 1")
    rng = np.random.default_rng(seed)
    num_held_out = max(1, round(len(y) * _SHARE_HELD_OUT))
    if y.dtype == np.int64:
        return _stratified(y, num_held_out, rng)
    return rng.permutation(np.arange(len(y)) < num_held_out)


def _stratified(y: NDArray[np.int64], num: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which ``num`` examples to hold out: of each class its share, by largest remainders."""
    labels, counts = np.unique(y, return_counts=True)
    shares = counts * num / len(y)
    quotas = np.floor(shares).astype(int)
    # A stable sort keeps the lower label first among equal remainders.
    by_remainder = np.argsort(quotas - shares, kind="stable")
    quotas[by_remainder[: num - quotas.sum()]] += 1
    held_out = np.zeros(len(y), bool)
    for label, quota in zip(labels, quotas, strict=True):
        held_out[rng.permutation(np.flatnonzero(y == label))[:quota]] = True
    return held_out


def _refused(path: str, name: str, message: str) -> DatasetFormatError:
    return DatasetFormatError(located(f"{name}: {message}", file=path))
