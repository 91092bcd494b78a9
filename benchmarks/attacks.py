"""Which aggregator withstands which attack: real training, attacked in every round.

Fifteen clients train a network on handwritten digits; three of them attack. In every round the
attackers submit what the attack says, the aggregator makes one model of all fifteen, and that is
the server model that the next round starts from. What is measured is the accuracy of the last
one on held-out digits. ``python -m benchmarks attacks`` prints how long each rule took as well.
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
from fedviz.aggregation.aggregators import AGGREGATORS
from fedviz.aggregation.average import average
from fedviz.dataset import WeightDataset
from fedviz.generation import client_ids
from fedviz.synthesis.injection import FaultInjection
from fedviz.training.architectures import architecture
from fedviz.training.data import TrainingData, load_data
from fedviz.training.partitions import partition
from fedviz.writer import ClientEntry, WeightDatasetWriter

__all__ = ["ATTACKS", "RULES", "Outcome", "measure", "outcomes", "table"]

CLIENTS, ATTACKERS, ROUNDS = 15, 3, 5
PARTITION, SEED = "dirichlet:1", 1
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

    def __init__(self, folder: Path) -> None:
        from fedviz.training.evaluation import Evaluator
        from fedviz.training.keras_models import initial_weights

        self.folder = folder
        self.model = architecture("digits-mlp")
        self.data: TrainingData = load_data("digits", SEED)
        self.parts = partition(PARTITION, self.data.y_train, CLIENTS, SEED)
        self.clients = client_ids(CLIENTS)
        self.start = initial_weights(self.model, SEED).arrays
        self.evaluate = Evaluator(self.model, self.data)
        # Traced before TFF builds models in graphs of its own, which Keras does not tell apart.
        self.evaluate(self.start)
        self._trainings: dict[frozenset[int], Any] = {}
        self._first: dict[frozenset[int], Any] = {}

    def injection(self, fault: str) -> FaultInjection:
        """The faults of an attack, which the last clients have."""
        texts = [f"{client}:{fault}" for client in self.clients[-ATTACKERS:]] if fault else []
        signature = self.model.signature
        return FaultInjection(texts, self.clients, signature, SEED, trains=True)

    def trained(self, flipped: frozenset[int], server: list[np.ndarray], number: int) -> Any:
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


def outcomes(
    folder: Path,
    attacks: Mapping[str, str] = ATTACKS,
    rules: Mapping[str, Mapping[str, Any]] = RULES,
    rounds: int = ROUNDS,
    report: Callable[[str], None] = lambda _: None,
) -> list[Outcome]:
    """Train under each attack with each aggregator."""
    scene = _Scene(folder)
    found = [Outcome(rule) for rule in rules]
    for attack, fault in attacks.items():
        for outcome in found:
            path = folder / f"{outcome.rule}-{fault.replace(':', '-') or 'none'}.h5"
            attacked = _attacked(scene, path, fault, outcome, rules[outcome.rule], rounds)
            outcome.accuracy[attack] = attacked
            path.unlink()
            report(f"{attack}, {outcome.rule}: {attacked:.3f}")
    return found


def _attacked(
    scene: _Scene,
    path: Path,
    fault: str,
    outcome: Outcome,
    parameters: Mapping[str, Any],
    rounds: int,
) -> float:
    """Accuracy of the last server model."""
    injection = scene.injection(fault)
    history = AGGREGATORS[outcome.rule].history == "optional"
    server = list(scene.start)
    for number in range(rounds):
        trained = scene.trained(injection.flipped, server, number)
        submitted = injection.corrupt(number, trained, server)
        _append(scene, path, server, [own for own in submitted if own is not None])
        started = time.perf_counter()
        with WeightDataset(path) as dataset:
            made = average(dataset, -1, "num_examples", outcome.rule, parameters, history=history)
        outcome.seconds += time.perf_counter() - started
        server = list(made.weights.values())
    return float(scene.evaluate(server).accuracy or 0.0)


def _append(
    scene: _Scene, path: Path, server: list[np.ndarray], clients: Sequence[list[np.ndarray]]
) -> None:
    """Write a round, as a server would keep it: adaptive rules look at those before."""
    entries = [
        ClientEntry(client, len(part))
        for client, part in zip(scene.clients, scene.parts, strict=True)
    ]
    new = not path.exists()
    writer = (
        WeightDatasetWriter(path, scene.model.signature)
        if new
        else WeightDatasetWriter.append(path)
    )
    with writer, writer.round(entries, server) as round_:
        for client, weights in zip(scene.clients, clients, strict=True):
            round_.write_client(client, weights)


def table(folder: Path) -> str:
    """The table in Markdown: a row for each aggregator, a column for each attack."""
    return markdown(outcomes(folder))


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
    for each in outcomes(folder):
        said = ", ".join(f"{attack} {value:.2f}" for attack, value in each.accuracy.items())
        yield Row(f"`{each.rule}`", each.seconds, said)


def main() -> None:
    """Train, and print the table."""
    import tempfile

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = outcomes(Path(folder), report=lambda line: print(line, flush=True))
    print(markdown(found))
    for each in found:
        print(f"{each.rule}: {each.seconds:.1f} s")
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
