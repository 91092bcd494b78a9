"""Server optimisers: what becomes of the mean's move over successive rounds.

FedAvgM, FedAdam and FedYogi take server − mean for a gradient and let an optimiser make a step of
it. What they remember is their state; the first round starts from rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedviz.analysis.stacks import Stacks
from fedviz.dataset import Round, WeightDataset
from fedviz.errors import CohortError, UnknownNameError, located
from fedviz.parameters import Parameter
from fedviz.progress import Progress, ProgressCallback, silent
from fedviz.robust.clients import Clients, RobustResult, count_nonfinite
from fedviz.robust.combination import weighted_combination

__all__ = [
    "OPTIMISERS",
    "ServerOptimiser",
    "ServerState",
    "first_server_update",
    "run_server_updates",
    "server_update",
]

_MOMENTUM = Parameter(
    "momentum",
    "number",
    0.9,
    "a number from 0 to below 1",
    "how much of the last step is kept; 0 keeps none",
    minimum=0,
    maximum=np.nextafter(1, 0),
)
_BETA1 = Parameter(
    "beta1",
    "number",
    0.9,
    "a number from 0 to below 1",
    "how much of the running mean of the moves is kept",
    minimum=0,
    maximum=np.nextafter(1, 0),
)
_BETA2 = Parameter(
    "beta2",
    "number",
    0.99,
    "a number from 0 to below 1",
    "how much of the running mean of their squares is kept",
    minimum=0,
    maximum=np.nextafter(1, 0),
)
_TAU = Parameter(
    "tau",
    "number",
    1e-3,
    "a number above 0",
    "how adaptive: the smaller, the more alike all cells' steps",
    minimum=0,
    open_ends=True,
)


def _learning_rate(default: float) -> Parameter:
    return Parameter(
        "server_learning_rate",
        "number",
        default,
        "a number above 0",
        "length of the server's step",
        minimum=0,
        open_ends=True,
    )


@dataclass(frozen=True)
class ServerState:
    """What an optimiser remembers, float64 by tensor; empty before the first round.

    Attributes
    ----------
    momentum : mapping of str to ndarray
        Running mean (FedAvgM: decaying sum) of the moves.
    squares : mapping of str to ndarray
        Running mean of the moves' squares; FedAvgM has none.
    rounds : int
        How many rounds went into it.
    """

    momentum: Mapping[str, np.ndarray] = field(default_factory=dict)
    squares: Mapping[str, np.ndarray] = field(default_factory=dict)
    rounds: int = 0


Moments = tuple[np.ndarray, np.ndarray, np.ndarray]
"""A tensor's step, its new momentum and its new squares."""


@dataclass(frozen=True)
class ServerOptimiser:
    """One optimiser.

    Attributes
    ----------
    parameters : tuple of Parameter
    step : callable
        From a tensor's move (mean − server), its momentum and squares (None before the first
        round) and the parameters.
    """

    parameters: tuple[Parameter, ...]
    step: Callable[[np.ndarray, np.ndarray | None, np.ndarray | None, Mapping[str, float]], Moments]


def _momentum_step(
    move: np.ndarray, momentum: np.ndarray | None, _: np.ndarray | None, p: Mapping[str, float]
) -> Moments:
    momentum = move if momentum is None else p["momentum"] * momentum + move
    return p["server_learning_rate"] * momentum, momentum, np.zeros(0)


def _adam_step(
    move: np.ndarray,
    momentum: np.ndarray | None,
    squares: np.ndarray | None,
    p: Mapping[str, float],
) -> Moments:
    before = _initial_squares(move, squares, p)
    squares = p["beta2"] * before + (1 - p["beta2"]) * move**2
    return _adaptive_step(move, momentum, squares, p)


def _yogi_step(
    move: np.ndarray,
    momentum: np.ndarray | None,
    squares: np.ndarray | None,
    p: Mapping[str, float],
) -> Moments:
    before = _initial_squares(move, squares, p)
    squares = before - (1 - p["beta2"]) * move**2 * np.sign(before - move**2)
    return _adaptive_step(move, momentum, squares, p)


def _initial_squares(
    move: np.ndarray, squares: np.ndarray | None, p: Mapping[str, float]
) -> np.ndarray:
    return np.full(move.shape, p["tau"] ** 2) if squares is None else squares


def _adaptive_step(
    move: np.ndarray, momentum: np.ndarray | None, squares: np.ndarray, p: Mapping[str, float]
) -> Moments:
    before = np.zeros(move.shape) if momentum is None else momentum
    momentum = p["beta1"] * before + (1 - p["beta1"]) * move
    step = p["server_learning_rate"] * momentum / (np.sqrt(squares) + p["tau"])
    return step, momentum, squares


OPTIMISERS: Mapping[str, ServerOptimiser] = {
    "fedavgm": ServerOptimiser((_learning_rate(1.0), _MOMENTUM), _momentum_step),
    "fedadam": ServerOptimiser((_learning_rate(0.01), _BETA1, _BETA2, _TAU), _adam_step),
    "fedyogi": ServerOptimiser((_learning_rate(0.01), _BETA1, _BETA2, _TAU), _yogi_step),
}
"""The optimisers by name."""


def server_update(
    kind: str,
    server: Mapping[str, np.ndarray],
    mean: Mapping[str, np.ndarray],
    state: ServerState | None = None,
    **parameters: Any,
) -> tuple[dict[str, np.ndarray], ServerState]:
    """One round of a server optimiser.

    With the move Δ = mean − server, in every cell:

    - ``fedavgm``: m ← momentum · m + Δ; server + server_learning_rate · m.
    - ``fedadam``: m ← β₁ m + (1 − β₁) Δ; v ← β₂ v + (1 − β₂) Δ²;
      server + server_learning_rate · m / (√v + τ).
    - ``fedyogi``: the same with v ← v − (1 − β₂) Δ² sign(v − Δ²).

    From rest m is 0 and v is τ². There is no correction of bias, as in the paper (Flower's FedAdam
    has one, and starts at v = 0).

    Parameters
    ----------
    kind : {"fedavgm", "fedadam", "fedyogi"}
    server, mean : mapping of str to ndarray
        Models of float tensors in equal shapes.
    state : ServerState, optional
        What the rounds before left; rest by default.
    **parameters
        The optimiser's own, see :data:`OPTIMISERS`.

    Returns
    -------
    weights : dict of str to ndarray
        The new model, in the mean's dtypes; computed in float64.
    state : ServerState
        For the next round.

    Raises
    ------
    UnknownNameError
        There is no such optimiser, or it has no such parameter.
    InvalidArgumentError
        A parameter outside its range.

    References
    ----------
    Hsu, Qi and Brown, Measuring the Effects of Non-Identical Data Distribution for Federated Visual
    Classification, 2019 (arXiv:1909.06335), for FedAvgM; Reddi et al., Adaptive Federated
    Optimization, ICLR 2021, algorithm 2, for the others.
    """
    optimiser, values = _checked(kind, parameters)
    state = state or ServerState()
    weights, momentum, squares = {}, {}, {}
    with np.errstate(over="ignore", invalid="ignore"):
        for name, target in mean.items():
            start = np.asarray(server[name], dtype="f8")
            move = np.asarray(target, dtype="f8") - start
            before = state.momentum.get(name), state.squares.get(name)
            step, momentum[name], squares[name] = optimiser.step(move, *before, values)
            weights[name] = np.asarray(start + step, dtype=target.dtype)
    return weights, ServerState(momentum, squares, state.rounds + 1)


def _checked(kind: str, parameters: Mapping[str, Any]) -> tuple[ServerOptimiser, dict[str, float]]:
    if kind not in OPTIMISERS:
        raise UnknownNameError(
            f"there is no server optimiser {kind}; there are {', '.join(OPTIMISERS)}."
        )
    optimiser = OPTIMISERS[kind]
    names = [parameter.name for parameter in optimiser.parameters]
    for name in parameters:
        if name not in names:
            raise UnknownNameError(f"{kind} has no parameter {name}; it has {', '.join(names)}.")
    values = {p.name: p.number(parameters.get(p.name, p.default)) for p in optimiser.parameters}
    return optimiser, values


def run_server_updates(
    kind: str,
    dataset: WeightDataset,
    round: int,
    mean_of: Callable[[Round], Mapping[str, np.ndarray]],
    progress: ProgressCallback = silent,
    **parameters: Any,
) -> RobustResult:
    """A server optimiser over a dataset's rounds, up to one of them.

    Every round's move is that from the server model that the dataset holds for it, because its
    clients started there. What the optimiser remembers is carried from round to round; the last
    step starts at the last round's own server model. The clients of later rounds would have
    started elsewhere, had this optimiser been at work: no dataset can say where that had led.

    Parameters
    ----------
    kind : {"fedavgm", "fedadam", "fedyogi"}
    dataset : WeightDataset
    round : int
        Number of the last round; -1 is the dataset's last.
    mean_of : callable
        The mean of a round's clients: float tensors by name.
    progress : callable, optional
        Called once a round.
    **parameters
        See :func:`server_update`.

    Returns
    -------
    RobustResult
        ``measurements``: ``rounds`` (their numbers), ``move_norms`` (‖mean − server‖ of each) and
        ``step_norm`` (‖model − server‖ of the last).

    Raises
    ------
    CohortError
        One of the rounds has no server model.
    """
    _checked(kind, parameters)
    last = dataset.round(round).number
    rounds = [each for each in dataset.rounds if each.number <= last]
    for each in rounds:
        if each.server is None:
            message = f"{kind} needs every round's server model; this round has none."
            raise CohortError(located(message, file=dataset.path, round=each.number))
    state, moves = ServerState(), []
    weights: dict[str, np.ndarray] = {}
    server: dict[str, np.ndarray] = {}
    for done, each in enumerate(rounds):
        progress(Progress(done, len(rounds), f"round {each.number}"))
        mean = mean_of(each)
        server = {name: each.server[name] for name in mean} if each.server is not None else {}
        weights, state = server_update(kind, server, mean, state, **parameters)
        moves.append(_distance(mean, server))
    progress(Progress(len(rounds), len(rounds), "done"))
    measurements = {
        "rounds": [each.number for each in rounds],
        "move_norms": moves,
        "step_norm": _distance(weights, server),
        "nonfinite_result": count_nonfinite(weights),
    }
    return RobustResult(weights, measurements)


def _distance(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> float | None:
    differences = [np.asarray(a[name], dtype="f8") - np.asarray(b[name], dtype="f8") for name in a]
    norm = float(np.sqrt(sum(float(np.vdot(d, d)) for d in differences)))
    return norm if np.isfinite(norm) else None


def first_server_update(
    kind: str,
    stacks: Stacks,
    weights: np.ndarray,
    server: Any,
    progress: ProgressCallback = silent,
    **parameters: Any,
) -> RobustResult:
    """An optimiser's first round, from rest; see :func:`server_update`.

    Parameters
    ----------
    kind : {"fedavgm", "fedadam", "fedyogi"}
    stacks : mapping of str to ndarray or StoredStack of shape (clients, …)
    weights : ndarray of shape (clients,), float64
    server : mapping of str to ndarray
    progress : callable, optional
    **parameters
        The optimiser's own, see :data:`OPTIMISERS`.
    """
    clients = Clients.taking_part(stacks, weights, server)
    start = clients.required_server(kind)
    _checked(kind, parameters)
    mean = weighted_combination(clients, clients.shares, progress)
    tensors, _ = server_update(kind, start, mean.tensors, **parameters)
    counted = {"nonfinite_result": count_nonfinite(tensors)}
    return RobustResult(tensors, {**mean.measurements, **counted})
