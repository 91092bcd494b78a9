"""Which aggregator withstands which attack: real training, attacked in every round.

Fifteen clients train a network on handwritten digits; three of them attack. In every round the
attackers submit what the attack says, the aggregator makes one model of all fifteen, and that is
the server model that the next round starts from. What is measured is the accuracy of the last
one on held-out digits. The clients' data are alike in one table, and skewed in the other.

The aggregators are fedviz's own, fed from memory: TFF's processes keep their state over the
rounds, as on a server. ``python -m benchmarks attacks`` says how long each took as well.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import Row
from fedviz.generation import client_ids
from fedviz.robust import RULES as ROBUST_RULES
from fedviz.robust import aggregate
from fedviz.synthesis.injection import FaultInjection
from fedviz.training.architectures import architecture
from fedviz.training.data import TrainingData, load_data
from fedviz.training.partitions import partition

__all__ = ["ATTACKS", "PARTITIONS", "RULES", "Outcome", "measure", "outcomes", "table"]

Arrays = list[np.ndarray]
Server = Callable[[Arrays, Sequence[Arrays]], Arrays]
"""(server model, what the clients submitted) → the next server model."""

CLIENTS, ATTACKERS, ROUNDS = 15, 3, 5
SEED = 1
PARTITIONS = {"iid": "Clients that are alike", "dirichlet:1": "Clients with skewed labels"}
LOCAL_EPOCHS, BATCH_SIZE, LEARNING_RATE = 2, 16, 0.15
WITHSTANDS = 0.9
"""Share of the accuracy of the mean without an attack from which a rule is said to withstand."""

ATTACKS = {
    "none": "",
    "sign flip": "sign-flip",
    "scaling × 10": "scale:10",
    "Gaussian, σ 1": "gaussian:1",
    "label flip": "label-flip",
    "a little is enough, z 0.21": "little-is-enough",
    "the same, z 1.5": "little-is-enough:1.5",
    "inner product, ε 0.5": "inner-product:0.5",
    "the same, ε 10": "inner-product:10",
}
"""Columns: the heading and the fault that each attacker has."""

RULES: Mapping[str, Mapping[str, Any]] = {
    "mean": {},
    "robust": {},
    "norm-bounded-mean": {},
    "median": {},
    "trimmed-mean": {"trim": ATTACKERS},
    "geometric-median": {},
    "krum": {"f": ATTACKERS},
    "multi-krum": {"f": ATTACKERS},
    "bulyan": {"f": ATTACKERS},
}
"""Rows: the aggregators and their parameters; the number of attackers is told to them."""


@dataclass
class Outcome:
    """What one aggregator came to: accuracy by attack, and seconds of its aggregations."""

    rule: str
    accuracy: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


class _Scene:
    """What stays the same for all attacks and rules: the data, and two trainings of TFF."""

    def __init__(self, partition_text: str) -> None:
        from fedviz.training.evaluation import Evaluator
        from fedviz.training.keras_models import initial_weights

        self.model = architecture("digits-mlp")
        self.data: TrainingData = load_data("digits", SEED)
        self.parts = partition(partition_text, self.data.y_train, CLIENTS, SEED)
        self.clients = client_ids(CLIENTS)
        self.weights = np.array([len(part) for part in self.parts], np.float64)
        self.start = initial_weights(self.model, SEED).arrays
        self.evaluate = Evaluator(self.model, self.data)
        # Traced before TFF builds models in graphs of its own, which Keras does not tell apart.
        self.evaluate(self.start)
        self.processes: dict[str, Any] = {}
        self._trainings: dict[frozenset[int], Any] = {}
        self._first: dict[frozenset[int], Any] = {}

    def injection(self, fault: str) -> FaultInjection:
        """The faults of an attack, which the last clients have."""
        texts = [f"{client}:{fault}" for client in self.clients[-ATTACKERS:]] if fault else []
        signature = self.model.signature
        return FaultInjection(texts, self.clients, signature, SEED, trains=True)

    def trained(self, flipped: frozenset[int], server: Arrays, number: int) -> list[Arrays]:
        """Each client's weights; those of the first round are trained once for all rules."""
        if number == 0 and flipped in self._first:
            return self._first[flipped]
        clients = self._training(flipped).local_updates(server, number)
        if number == 0:
            self._first[flipped] = clients
        return clients

    def _training(self, flipped: frozenset[int]) -> Any:
        from fedviz.training.federated import FederatedTraining, LocalTraining

        if flipped not in self._trainings:
            local = LocalTraining(LOCAL_EPOCHS, BATCH_SIZE, LEARNING_RATE)
            self._trainings[flipped] = FederatedTraining(
                self.model, self.data, self.parts, local, SEED, flipped
            )
        return self._trainings[flipped]


def _server(scene: _Scene, rule: str, parameters: Mapping[str, Any]) -> Server:
    """A server that has seen no round yet."""
    if rule == "mean":
        return lambda _, clients: _mean(scene, clients)
    if rule in ROBUST_RULES:
        return lambda server, clients: _by_rule(scene, rule, parameters, server, clients)
    return _TffServer(scene, rule, parameters)


def _mean(scene: _Scene, clients: Sequence[Arrays]) -> Arrays:
    from fedviz.aggregation.federated_mean import federated_mean_in_memory

    return [np.asarray(each) for each in federated_mean_in_memory(clients, scene.weights.tolist())]


def _by_rule(
    scene: _Scene,
    rule: str,
    parameters: Mapping[str, Any],
    server: Arrays,
    clients: Sequence[Arrays],
) -> Arrays:
    names = scene.model.signature.names
    stacks = {
        name: np.stack(own) for name, own in zip(names, zip(*clients, strict=True), strict=True)
    }
    start = dict(zip(names, server, strict=True))
    made = aggregate(rule, stacks, scene.weights, start, parameters)
    return [made.tensors[name] for name in names]


def _process(scene: _Scene, rule: str, parameters: Mapping[str, Any]) -> Any:
    import tensorflow_federated as tff

    from fedviz.aggregation.tff_aggregators import TFF_AGGREGATORS
    from fedviz.aggregation.tff_factories import create_process

    value_type = tff.to_type(
        tuple(tff.TensorType(np.float32, spec.shape) for spec in scene.model.signature)
    )
    return create_process(TFF_AGGREGATORS[rule], value_type, parameters, CLIENTS)


class _TffServer:
    """One of TFF's processes over the clients' updates, with its state."""

    def __init__(self, scene: _Scene, rule: str, parameters: Mapping[str, Any]) -> None:
        from fedviz.aggregation.context import run

        if rule not in scene.processes:
            scene.processes[rule] = _process(scene, rule, parameters)
        self._run, self._process = run, scene.processes[rule]
        self._weights = scene.weights.astype(np.float32).tolist()
        self._state = run(self._process.initialize)

    def __call__(self, server: Arrays, clients: Sequence[Arrays]) -> Arrays:
        updates = [
            tuple(own - start for own, start in zip(each, server, strict=True)) for each in clients
        ]
        made = self._run(self._process.next, self._state, updates, self._weights)
        self._state = made.state
        return [
            (start + np.asarray(moved)).astype(start.dtype)
            for start, moved in zip(server, made.result, strict=True)
        ]


def outcomes(
    partition_text: str,
    attacks: Mapping[str, str] = ATTACKS,
    rules: Mapping[str, Mapping[str, Any]] = RULES,
    rounds: int = ROUNDS,
    report: Callable[[str], None] = lambda _: None,
) -> list[Outcome]:
    """Train under each attack with each aggregator."""
    scene = _Scene(partition_text)
    found = [Outcome(rule) for rule in rules]
    for attack, fault in attacks.items():
        injection = scene.injection(fault)
        for outcome in found:
            server = _server(scene, outcome.rule, rules[outcome.rule])
            outcome.accuracy[attack] = _attacked(scene, injection, server, outcome, rounds)
            report(f"{attack}, {outcome.rule}: {outcome.accuracy[attack]:.3f}")
    return found


def _attacked(
    scene: _Scene, injection: FaultInjection, next_server: Server, outcome: Outcome, rounds: int
) -> float:
    """Accuracy of the last server model."""
    server = list(scene.start)
    for number in range(rounds):
        trained = scene.trained(injection.flipped, server, number)
        submitted = [own for own in injection.corrupt(number, trained, server) if own is not None]
        started = time.perf_counter()
        server = next_server(server, submitted)
        outcome.seconds += time.perf_counter() - started
    return float(scene.evaluate(server).accuracy or 0.0)


def table(folder: Path) -> str:
    """The tables in Markdown: a row for each aggregator, a column for each attack."""
    del folder
    return "\n\n".join(
        f"**{title}** (`{text}`)\n\n{markdown(outcomes(text))}"
        for text, title in PARTITIONS.items()
    )


def markdown(found: Sequence[Outcome]) -> str:
    """Outcomes as a table; in bold what withstands."""
    attacks = list(found[0].accuracy)
    fine = WITHSTANDS * next(each for each in found if each.rule == "mean").accuracy["none"]
    lines = [
        "| " + " | ".join(["", *attacks]) + " |",
        "|---|" + "---:|" * len(attacks),
    ]
    for each in found:
        cells = [_cell(each.accuracy[attack], fine) for attack in attacks]
        lines.append("| " + " | ".join([f"`{each.rule}`", *cells]) + " |")
    return "\n".join(lines)


def _cell(accuracy: float, fine: float) -> str:
    return f"**{accuracy:.2f}**" if accuracy >= fine else f"{accuracy:.2f}"


def measure(folder: Path) -> Iterator[Row]:
    """A row for each aggregator: seconds of its aggregations, and its accuracies."""
    del folder
    for text in PARTITIONS:
        for each in outcomes(text):
            said = ", ".join(f"{attack} {value:.2f}" for attack, value in each.accuracy.items())
            yield Row(f"{text}, `{each.rule}`", each.seconds, said)


def main() -> None:
    """Train, and print the tables."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    started = time.perf_counter()
    for text, title in PARTITIONS.items():
        found = outcomes(text)
        print(f"**{title}** (`{text}`)\n\n{markdown(found)}\n", flush=True)
        print(", ".join(f"{each.rule} {each.seconds:.1f} s" for each in found))
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
