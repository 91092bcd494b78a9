"""Faults that are injected into clients on purpose, with their ground truth known.

A fault is written ``CLIENT:KIND[:ARG]``, such as ``c03:nan:0.01``. Structural faults change a
client's signature; the others change its values, or its labels before it trains. The formulae and
sources of the attacks are in ``docs/generating.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedviz.errors import InvalidArgumentError
from fedviz.records import FaultKind, InjectedFault
from fedviz.signature import Signature
from fedviz.synthesis.attacks import (
    EPSILON,
    HonestClients,
    inner_product_manipulation,
    little_is_enough,
    little_is_enough_z,
)
from fedviz.synthesis.fault import Fault, is_colluding, is_structural, parse_fault
from fedviz.synthesis.structure import faulty_signature, restructured

__all__ = [
    "Fault",
    "apply_fault",
    "faulty_signature",
    "is_colluding",
    "is_structural",
    "parse_fault",
]

NUM_CELLS = 5
"""Cells that ``nan`` and ``inf`` hit where no share is given."""

SCALE_FACTOR = 10.0
"""What ``scale`` multiplies an update by where no factor is given."""

STDDEV = 1.0
"""Deviation of ``gaussian`` where none is given."""


def apply_fault(
    fault: Fault,
    weights: Mapping[str, NDArray[Any]],
    server: Mapping[str, NDArray[Any]] | None,
    rng: np.random.Generator,
    honest: HonestClients | None = None,
) -> tuple[dict[str, NDArray[Any]], InjectedFault]:
    """The weights of a client with the fault in them, and the ground truth of it.

    Parameters
    ----------
    fault : Fault
        What to do. A label flip happens before training: it leaves the weights as they are.
    weights : mapping of name to ndarray
        The client's weights, in order.
    server : mapping of name to ndarray, or None
        The server model of the round; ``scale``, ``sign-flip``, ``gaussian`` and
        ``inner-product`` change the update from it.
    rng : Generator
        Chooses the cells of ``nan`` and ``inf``, and draws the noise of ``gaussian``.
    honest : HonestClients, optional
        What attackers that collude know.

    Returns
    -------
    weights : dict of name to ndarray
        In the faulty client's own order. Arrays that the fault does not touch are not copied.
    record : InjectedFault
        With the tensors that were touched; none where the whole model is.

    Raises
    ------
    InvalidArgumentError, UnknownNameError
        As :func:`faulty_signature`; or a kind that changes the update without a server model, or
        one that colludes without honest clients.
    """
    if is_structural(fault.kind):
        faulty, tensors = restructured(fault, weights)
    elif fault.kind in (FaultKind.NAN, FaultKind.INF):
        faulty, tensors = _with_nonfinite_cells(fault, weights, rng)
    elif fault.kind in (FaultKind.SCALE, FaultKind.SIGN_FLIP):
        faulty, tensors = _with_scaled_update(fault, weights, server), ()
    elif fault.kind is FaultKind.GAUSSIAN:
        faulty, tensors = _with_noise_as_update(fault, weights, server, rng), ()
    elif is_colluding(fault.kind):
        faulty, tensors = _with_agreed_model(fault, weights, server, honest), ()
    else:
        faulty, tensors = dict(weights), ()
    return faulty, InjectedFault(fault.client, fault.kind, fault.argument, tensors)


def _with_nonfinite_cells(
    fault: Fault, weights: Mapping[str, NDArray[Any]], rng: np.random.Generator
) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    names = [spec.name for spec in Signature.of(weights) if spec.is_float and spec.size]
    if not names:
        raise InvalidArgumentError(f"fault {fault}: the model has no real numbers to replace")
    ends = np.cumsum([weights[name].size for name in names])
    cells = np.sort(rng.choice(ends[-1], size=_num_cells(fault, int(ends[-1])), replace=False))
    tensor_of_cell = np.searchsorted(ends, cells, side="right")
    faulty = dict(weights)
    for index in np.unique(tensor_of_cell):
        start = ends[index] - weights[names[index]].size
        places = cells[tensor_of_cell == index] - start
        faulty[names[index]] = _replaced(weights[names[index]], places, fault.kind, rng)
    return faulty, tuple(names[index] for index in np.unique(tensor_of_cell))


def _num_cells(fault: Fault, total: int) -> int:
    wanted = round(fault.number * total) if fault.argument else NUM_CELLS
    return min(max(wanted, 1), total)


def _replaced(
    array: NDArray[Any], places: NDArray[Any], kind: FaultKind, rng: np.random.Generator
) -> NDArray[Any]:
    flat = array.ravel().copy()
    if kind is FaultKind.NAN:
        flat[places] = np.nan
    else:
        flat[places] = rng.choice(np.array([-np.inf, np.inf]), size=places.size)
    return flat.reshape(array.shape)


def _with_scaled_update(
    fault: Fault, weights: Mapping[str, NDArray[Any]], server: Mapping[str, NDArray[Any]] | None
) -> dict[str, NDArray[Any]]:
    start = _known_server(fault, server)
    if fault.kind is FaultKind.SIGN_FLIP:
        factor = -1.0
    else:
        factor = fault.number if fault.argument else SCALE_FACTOR
    return {
        spec.name: _scaled(weights[spec.name], start[spec.name], factor)
        if spec.is_float
        else weights[spec.name]
        for spec in Signature.of(weights)
    }


def _known_server(
    fault: Fault, server: Mapping[str, NDArray[Any]] | None
) -> Mapping[str, NDArray[Any]]:
    if server is None:
        raise InvalidArgumentError(
            f"fault {fault}: {fault.kind.value} changes the update, and there is no server model "
            "to tell the update from the weights"
        )
    return server


def _scaled(client: NDArray[Any], server: NDArray[Any], factor: float) -> NDArray[Any]:
    """Server + factor × update, in float64, rounded to the client's dtype."""
    start = server.astype(np.float64)
    update = client.astype(np.float64) - start
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(start + factor * update).astype(client.dtype)


def _with_noise_as_update(
    fault: Fault,
    weights: Mapping[str, NDArray[Any]],
    server: Mapping[str, NDArray[Any]] | None,
    rng: np.random.Generator,
) -> dict[str, NDArray[Any]]:
    start = _known_server(fault, server)
    stddev = fault.number if fault.argument else STDDEV
    faulty = dict(weights)
    for spec in Signature.of(weights):
        if spec.is_float:
            noise = rng.normal(0.0, stddev, spec.shape)
            with np.errstate(over="ignore"):
                noisy = np.asarray(start[spec.name].astype(np.float64) + noise)
                faulty[spec.name] = noisy.astype(spec.numpy_dtype)
    return faulty


def _with_agreed_model(
    fault: Fault,
    weights: Mapping[str, NDArray[Any]],
    server: Mapping[str, NDArray[Any]] | None,
    honest: HonestClients | None,
) -> dict[str, NDArray[Any]]:
    if honest is None:
        raise InvalidArgumentError(
            f"fault {fault}: attackers that collude need honest clients to learn from"
        )
    if fault.kind is FaultKind.INNER_PRODUCT:
        epsilon = fault.number if fault.argument else EPSILON
        start = _known_server(fault, server)
        return inner_product_manipulation(weights, start, honest, epsilon)
    sizes = honest.num_clients, honest.num_attackers
    z = fault.number if fault.argument else little_is_enough_z(*sizes)
    return little_is_enough(weights, honest, z)
