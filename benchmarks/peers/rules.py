"""The rules beyond TFF next to Flower's, on the same random clients.

Run in the peers' environment (``scripts/peers_environment.sh`` makes it)::

    .venv-peers/bin/python -m benchmarks.peers.rules

Each line says how far two models lie apart at most, over the largest value, and how many of the
cells differ by more than 1e-6 of it. It exits with 1 where that is more than is explained here:

- Flower sums in the clients' own dtype and we in float64, which is 1e-7 in float32.
- Bulyan: of two values equally far from the median Flower takes either, and rounds distances to
  float32 before it compares them. That may change a cell in a thousand in float32; here none did.
- FedAdam: Flower corrects a bias, which the paper does not; its learning rate is divided by that.
- FedAdam and FedYogi: Flower starts with v = 0, the paper with at least τ²; it is given τ².
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import numpy as np
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server.strategy import FedAdam, FedAvgM, FedYogi
from flwr.server.strategy.aggregate import (
    aggregate_bulyan,
    aggregate_krum,
    aggregate_median,
    aggregate_trimmed_avg,
)

from fedviz.robust import RULES, ServerState, aggregate, server_update

SHAPES = {"kernel": (200, 50), "bias": (50,)}
ROUNDS = 5
SERVER_PARAMETERS = {
    "fedavgm": {"server_learning_rate": 0.7, "momentum": 0.9},
    "fedadam": {"server_learning_rate": 0.01, "beta1": 0.9, "beta2": 0.99, "tau": 1e-3},
    "fedyogi": {"server_learning_rate": 0.01, "beta1": 0.9, "beta2": 0.99, "tau": 1e-3},
}


def random_clients(num_clients: int, dtype: str, seed: int) -> dict[str, np.ndarray]:
    """Clients around a common model."""
    rng = np.random.default_rng(seed)
    return {
        name: (rng.standard_normal(shape) + 0.1 * rng.standard_normal((num_clients, *shape)))
        .astype(dtype)
        for name, shape in SHAPES.items()
    }  # fmt: skip


def flowers_model(name: str, parameters: dict[str, float], results: list) -> list[np.ndarray]:
    """One round by Flower."""
    if name == "median":
        return aggregate_median(results)
    if name == "trimmed-mean":
        return aggregate_trimmed_avg(results, parameters["trim"])
    if name == "bulyan":
        return aggregate_bulyan(results, parameters["f"], aggregate_krum, to_keep=0)
    return aggregate_krum(results, parameters["f"], parameters.get("m", 0))


def compared_rules() -> Iterator[tuple[str, str, float, float, float]]:
    """Each rule: its name, the case, the difference, the share of cells, and what is allowed."""
    cases = [
        *(("median", n, {}) for n in (10, 11)),
        *(("trimmed-mean", n, {"trim": t}) for n, t in ((10, 0.1), (31, 0.2))),
        *(("krum", n, {"f": f}) for n, f in ((5, 1), (20, 4))),
        *(("multi-krum", n, {"f": f, "m": m}) for n, f, m in ((9, 2, 4), (20, 4, 16))),
        *(("bulyan", n, {"f": f}) for n, f in ((7, 1), (11, 2), (30, 5))),
    ]
    for name, num_clients, parameters in cases:
        for dtype in ("float32", "float64"):
            stacks = random_clients(num_clients, dtype, num_clients)
            weights = np.random.default_rng(1).integers(1, 100, num_clients)
            results = [
                ([s[i] for s in stacks.values()], int(weights[i])) for i in range(num_clients)
            ]
            flowers = flowers_model(name, parameters, results)
            ours = aggregate(name, stacks, weights.astype("f8"), parameters=parameters).tensors
            allowed = 1e-3 if (name, dtype) == ("bulyan", "float32") else 0.0
            values = ", ".join(f"{k}={v}" for k, v in parameters.items())
            case = f"n={num_clients} {values} {dtype}"
            yield name, case, *difference(list(ours.values()), flowers), allowed


def flowers_strategy(kind: str, server: list[np.ndarray]) -> FedAvgM | FedAdam | FedYogi:
    """Flower's optimiser with the same parameters, from the same rest."""
    p, initial = SERVER_PARAMETERS[kind], ndarrays_to_parameters(server)
    if kind == "fedavgm":
        return FedAvgM(
            initial_parameters=initial,
            server_learning_rate=p["server_learning_rate"],
            server_momentum=p["momentum"],
        )
    strategy = (FedAdam if kind == "fedadam" else FedYogi)(
        initial_parameters=initial,
        eta=p["server_learning_rate"],
        beta_1=p["beta1"],
        beta_2=p["beta2"],
        tau=p["tau"],
    )
    strategy.v_t = [np.full_like(tensor, p["tau"] ** 2) for tensor in server]
    return strategy


def bias_correction(kind: str, server_round: int) -> float:
    """What Flower's FedAdam multiplies its learning rate by."""
    if kind != "fedadam":
        return 1.0
    p, power = SERVER_PARAMETERS[kind], server_round + 1.0
    return float(np.sqrt(1 - p["beta2"] ** power) / (1 - p["beta1"] ** power))


def compared_optimisers() -> Iterator[tuple[str, str, float, float, float]]:
    """Each optimiser over some rounds, its own result the next round's server model."""
    for kind, parameters in SERVER_PARAMETERS.items():
        server = {name: s[0] for name, s in random_clients(1, "float64", 99).items()}
        strategy = flowers_strategy(kind, list(server.values()))
        state = ServerState()
        for number in range(1, ROUNDS + 1):
            mean = {name: s[0] for name, s in random_clients(1, "float64", number).items()}
            server, state = server_update(kind, server, mean, state, **parameters)
            if kind != "fedavgm":
                rate = parameters["server_learning_rate"]
                strategy.eta = rate / bias_correction(kind, number)
            sent = ndarrays_to_parameters(list(mean.values()))
            fit = FitRes(Status(Code.OK, ""), sent, 1, {})
            found, _ = strategy.aggregate_fit(number, [(None, fit)], [])
        flowers = parameters_to_ndarrays(found)
        yield kind, f"{ROUNDS} rounds", *difference(list(server.values()), flowers), 0.0


def difference(ours: list[np.ndarray], flowers: list[np.ndarray]) -> tuple[float, float]:
    """Largest difference over the largest value, and the share of cells beyond 1e-6 of it."""
    one, other = (np.concatenate([t.reshape(-1).astype("f8") for t in m]) for m in (ours, flowers))
    apart = np.abs(one - other) / np.abs(other).max()
    return float(apart.max()), float((apart > 1e-6).mean())


def main() -> int:
    """Compare and print, as JSON with ``--json``; 1 where more differs than is explained."""
    rows = [
        {
            "rule": RULES[name].title,
            "case": case.replace("  ", " "),
            "largest": largest,
            "cells": share,
            "explained": share <= allowed,
        }
        for name, case, largest, share, allowed in (*compared_rules(), *compared_optimisers())
    ]
    if "--json" in sys.argv:
        print(json.dumps(rows))
        return 0
    print(f"{'rule':<24} {'case':<28} {'largest':>12} {'cells':>10}")
    for row in rows:
        mark = "" if row["explained"] else "  NOT EXPLAINED"
        apart = f"{row['largest']:>12.1e} {row['cells']:>10.4%}"
        print(f"{row['rule']:<24} {row['case']:<28} {apart}{mark}")
    return 0 if all(row["explained"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
