"""Perturbed clients: Gaussian noise on a model's weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedviz.errors import InvalidArgumentError
from fedviz.signature import Signature, TensorSpec

__all__ = ["client_rng", "perturb"]


def client_rng(seed: int, round: int, client_index: int) -> np.random.Generator:
    """The random stream of one client in one round.

    Each client has a stream of its own, whatever the number of clients and rounds: the first ten
    clients of a hundred are the ten clients of ten.

    Parameters
    ----------
    seed : int
        Not negative.
    round, client_index : int
        Not negative.

    Raises
    ------
    InvalidArgumentError
        A number is negative.
    """
    if min(seed, round, client_index) < 0:
        raise InvalidArgumentError(
            f"seed, round and client must not be negative, found {seed}, {round}, {client_index}"
        )
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(round, client_index)))


def perturb(
    weights: Sequence[NDArray[Any]],
    signature: Signature,
    stddev: float,
    *,
    relative: bool = False,
    rng: np.random.Generator,
) -> list[NDArray[Any]]:
    """The weights with Gaussian noise added.

    The noise is drawn and added in float64, and each sum is rounded to its tensor's own dtype:
    the signature stays what it was. Integer and bool tensors are left as they are.

    Parameters
    ----------
    weights : sequence of ndarray
        In the order of ``signature``.
    signature : Signature
        What the weights must have.
    stddev : float
        Standard deviation of the noise; with ``relative``, as a multiple of each tensor's rms.
        0 gives a copy.
    relative : bool
        A tensor of zeros, such as a fresh model's biases, has rms 0 and then stays at zero.
        Cells that are not finite do not count in the rms.
    rng : Generator
        Such as :func:`client_rng` gives.

    Returns
    -------
    list of ndarray
        New arrays of the same shapes and dtypes.

    Raises
    ------
    InvalidArgumentError
        ``stddev`` is negative or not finite.
    SignatureError
        The weights do not have this signature.
    """
    if not math.isfinite(stddev) or stddev < 0:
        raise InvalidArgumentError(
            f"stddev must be a finite number that is not negative, found {stddev}"
        )
    arrays = signature.arrange(weights)
    return [
        _perturbed(array, spec, stddev * _rms(array) if relative else stddev, rng)
        for spec, array in zip(signature, arrays, strict=True)
    ]


def _perturbed(
    array: NDArray[Any], spec: TensorSpec, stddev: float, rng: np.random.Generator
) -> NDArray[Any]:
    if not spec.is_float:
        return array.copy()
    noise = rng.normal(0.0, stddev, size=array.shape)
    # A sum beyond a float16's range is an infinity, which the dataset shows as such.
    with np.errstate(over="ignore"):
        return np.asarray(array.astype(np.float64) + noise).astype(array.dtype)


def _rms(array: NDArray[Any]) -> float:
    values = array.astype(np.float64)
    values = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0
