"""Making datasets: from a request to a file, client by client.

Perturbed datasets hold the server model plus noise. Trained ones are what federated training in
TFF gives on real data, round by round. Both may have faults injected, with the ground truth kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedviz.dataset import WeightDataset
from fedviz.errors import InvalidArgumentError, UnknownNameError
from fedviz.importers.template import read_template
from fedviz.progress import Progress, ProgressCallback, silent
from fedviz.signature import Signature
from fedviz.synthesis.injection import FaultInjection, faults_by_client
from fedviz.synthesis.perturb import client_rng, perturb
from fedviz.training.architectures import ARCHITECTURES, Architecture, architecture
from fedviz.training.data import TrainingData, fit_to, load_data
from fedviz.training.partitions import label_counts, parse_partition, partition
from fedviz.writer import ClientEntry, WeightDatasetWriter

if TYPE_CHECKING:
    import tensorflow as tf

    from fedviz.training.federated import TrainedRound

__all__ = ["GenerateRequest", "Mode", "client_ids", "generate", "shares_of_clients", "synthesize"]

Mode = str
MODES = ("perturb", "train")
# Spawn key of a random stream, beside those of the rounds, which count from 0.
_EXAMPLES_STREAM = 2**31


@dataclass(frozen=True)
class GenerateRequest:
    """What to generate.

    Parameters
    ----------
    architecture : str
        A name of :data:`~fedviz.training.architectures.ARCHITECTURES`; or the path of a Keras
        JSON config (``.json``); or, to perturb only, of a weights file (``.npz``,
        ``.safetensors``, ``.h5``).
    clients, rounds : int
        At least 1 each.
    mode : str
        ``perturb`` or ``train``.
    stddev : float
        Standard deviation of the noise, 0 or more; with ``relative`` a multiple of each tensor's
        rms. For ``perturb``.
    data : str
        ``digits`` or the path of an ``.npz`` with x, y. For ``train``, like what follows.
    partition : str
        ``iid``, ``dirichlet:ALPHA``, ``shards:K`` or ``client-id``.
    local_epochs, batch_size, learning_rate
        Of the local training, by SGD.
    faults : tuple of str
        ``CLIENT:KIND[:ARG]`` each.
    seed : int
        0 or more. The same request with the same seed gives the same weights.

    Raises
    ------
    InvalidArgumentError, UnknownNameError
        A value is outside its range.
    """

    architecture: str = "digits-mlp"
    clients: int = 10
    rounds: int = 1
    mode: Mode = "perturb"
    stddev: float = 0.01
    relative: bool = False
    data: str = "digits"
    partition: str = "iid"
    local_epochs: int = 3
    batch_size: int = 16
    learning_rate: float = 0.15
    faults: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UnknownNameError(f"there is no mode {self.mode}; there are {', '.join(MODES)}.")
        for name in ("clients", "rounds", "local_epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise InvalidArgumentError(f"{name} is {getattr(self, name)}; expected 1 or more.")
        if self.seed < 0:
            raise InvalidArgumentError(f"seed is {self.seed}; expected 0 or more.")
        if not (np.isfinite(self.stddev) and self.stddev >= 0):
            raise InvalidArgumentError(f"stddev is {self.stddev}; expected 0 or more.")
        if not (np.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise InvalidArgumentError(
                f"learning_rate is {self.learning_rate}; expected a number above 0."
            )
        parse_partition(self.partition)
        faults_by_client(self.faults, client_ids(self.clients), trains=self.mode == "train")


def client_ids(count: int) -> list[str]:
    """Ids of generated clients, of one length so that they sort: c00, c01 and so on."""
    width = max(2, len(str(count - 1)))
    return [f"c{i:0{width}d}" for i in range(count)]


def generate(
    request: GenerateRequest, path: str | Path, progress: ProgressCallback = silent
) -> Path:
    """Generate a dataset.

    Parameters
    ----------
    request : GenerateRequest
        What to generate.
    path : path
        The file; it appears when it is complete.
    progress : callable
        Told of every round, or of every client that is perturbed.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    FedvizError
        An unknown architecture or client, data that does not fit the model, a file that cannot
        be written, a worker that fails; nothing is written then.
    """
    if request.mode == "train":
        _generate_trained(request, Path(path), progress)
    else:
        _generate_perturbed(request, Path(path), progress)
    return Path(path)


def synthesize(
    path: str | Path,
    model: tf.keras.Model | Mapping[str, np.ndarray] | str,
    num_clients: int = 10,
    stddev: float = 0.01,
    seed: int = 0,
    *,
    relative: bool = False,
    rounds: int = 1,
    faults: Sequence[str] = (),
) -> WeightDataset:
    """Perturbed clients of a model of one's own; see :class:`GenerateRequest`.

    Parameters
    ----------
    path : path
        The file to write.
    model : Keras model, mapping of name to array, or str
        The server model; a text names an architecture or a file.
    num_clients, stddev, seed, relative, rounds, faults
        As in :class:`GenerateRequest`.

    Returns
    -------
    WeightDataset
        Opened for reading.
    """
    request = GenerateRequest(
        architecture=model if isinstance(model, str) else "",
        clients=num_clients,
        rounds=rounds,
        stddev=stddev,
        relative=relative,
        faults=tuple(faults),
        seed=seed,
    )
    if isinstance(model, str):
        generate(request, path)
    else:
        weights, signature = _own_weights(model)
        _write_perturbed(request, Path(path), weights, signature, silent)
    return WeightDataset(path)


def _own_weights(
    model: tf.keras.Model | Mapping[str, np.ndarray],
) -> tuple[list[np.ndarray], Signature]:
    if isinstance(model, Mapping):
        arrays = {name: np.asarray(array) for name, array in model.items()}
        return list(arrays.values()), Signature.of(arrays)
    from fedviz.training.keras_weights import extract_weights

    extracted = extract_weights(model)
    return extracted.arrays, extracted.signature


# --- where the model comes from ---------------------------------------------------------------


def _is_file(name: str) -> bool:
    return name not in ARCHITECTURES and Path(name).suffix != ""


def _model_source(name: str) -> Architecture | str:
    """A registered architecture, or the text of a Keras JSON config."""
    if not _is_file(name):
        return architecture(name)
    if Path(name).suffix != ".json":
        raise InvalidArgumentError(
            f"{name} holds weights, not an architecture; training needs a name of "
            f"{', '.join(ARCHITECTURES)}, or a Keras JSON config."
        )
    from fedviz.training.keras_config import model_from_json

    return model_from_json(Path(name)).to_json()


def _server_weights(request: GenerateRequest) -> tuple[list[np.ndarray], Signature]:
    name = request.architecture
    if _is_file(name) and Path(name).suffix != ".json":
        return read_template(name)
    source = _model_source(name)
    from fedviz.training.keras_models import initial_weights

    weights = initial_weights(source, request.seed)
    return weights.arrays, weights.signature


# --- perturbed --------------------------------------------------------------------------------


def _generate_perturbed(request: GenerateRequest, path: Path, progress: ProgressCallback) -> None:
    progress(Progress(0, 1, "building the server model"))
    weights, signature = _server_weights(request)
    _write_perturbed(request, path, weights, signature, progress)


def _write_perturbed(
    request: GenerateRequest,
    path: Path,
    server: Sequence[np.ndarray],
    signature: Signature,
    progress: ProgressCallback,
) -> None:
    clients = client_ids(request.clients)
    faults = FaultInjection(
        request.faults, clients, signature, request.seed, trains=request.mode == "train"
    )
    entries = [
        ClientEntry(client, _drawn_examples(request.seed, i), faults.signatures[client])
        for i, client in enumerate(clients)
    ]
    total = request.rounds * request.clients

    def noisy(number: int, i: int) -> list[np.ndarray]:
        # Drawn anew where attackers look at it first: cheaper than keeping every client.
        rng = client_rng(request.seed, number, i)
        return perturb(server, signature, request.stddev, relative=request.relative, rng=rng)

    with WeightDatasetWriter(path, signature, _recipe(request)) as writer:
        for number in range(request.rounds):
            honest = faults.honest((c, noisy(number, i)) for i, c in enumerate(clients))
            with writer.round(entries, server) as round_:
                for i, client in enumerate(clients):
                    progress(Progress(number * len(clients) + i, total, f"perturbing {client}"))
                    made = faults.apply(client, noisy(number, i), server, number, honest)
                    round_.write_client(client, made)
        _write_ground_truth(writer, faults)


def _drawn_examples(seed: int, index: int) -> int:
    """A perturbed client never saw an example; it gets 50 to 200, so that weighting matters."""
    return int(client_rng(seed, _EXAMPLES_STREAM, index).integers(50, 201))


# --- trained ----------------------------------------------------------------------------------


def shares_of_clients(request: GenerateRequest) -> tuple[list[np.ndarray], TrainingData]:
    """The examples that each client of a training request gets; TensorFlow is not imported.

    Returns
    -------
    parts : list of ndarray of int64
        Indices of each client's examples.
    data : TrainingData
        What they are indices of.
    """
    data = load_data(request.data, request.seed)
    parts = partition(
        request.partition, data.y_train, request.clients, request.seed, data.client_ids
    )
    return parts, data


def _generate_trained(request: GenerateRequest, path: Path, progress: ProgressCallback) -> None:
    progress(Progress(0, request.rounds, "loading TensorFlow"))
    source = _model_source(request.architecture)
    parts, data = shares_of_clients(request)
    from fedviz.training.federated import LocalTraining, train_rounds
    from fedviz.training.keras_models import build_model, initial_weights

    model = build_model(source)
    data = fit_to(data, tuple(model.input_shape[1:]), int(model.output_shape[-1]))
    signature = initial_weights(source, request.seed).signature
    clients = client_ids(request.clients)
    faults = FaultInjection(
        request.faults, clients, signature, request.seed, trains=request.mode == "train"
    )
    rounds = train_rounds(
        source,
        data,
        parts,
        rounds=request.rounds,
        local=LocalTraining(request.local_epochs, request.batch_size, request.learning_rate),
        seed=request.seed,
        client_ids=clients,
        corrupt=faults.corrupt,
        flip_labels_of=faults.flipped,
        progress=progress,
    )
    recipe = _recipe(request)
    if isinstance(source, str):
        recipe["keras_json"] = source
    entries = [
        ClientEntry(client, int(part.size), faults.signatures[client])
        for client, part in zip(clients, parts, strict=True)
    ]
    with WeightDatasetWriter(path, signature, recipe) as writer:
        for trained in rounds:
            with writer.round(entries, trained.server) as round_:
                for client, weights in _submissions(trained, clients, faults):
                    round_.write_client(client, weights)
                round_.write_aggregate(
                    "mean",
                    trained.aggregate,
                    aggregator="mean",
                    weighting="num_examples",
                    measurements={"left_out": [clients[i] for i in trained.left_out]},
                )
                round_.write_metrics(trained.metrics)
                if data.num_classes is not None:
                    counts = label_counts(data.y_train, parts, data.num_classes)
                    round_.write_label_counts(counts)
        _write_ground_truth(writer, faults)


def _submissions(
    trained: TrainedRound, clients: Sequence[str], faults: FaultInjection
) -> Iterator[tuple[str, Sequence[np.ndarray] | dict[str, np.ndarray]]]:
    """What each client hands in; a structural fault comes on top of honest weights."""
    for client, weights in zip(clients, trained.clients, strict=True):
        if faults.signatures[client] is None:
            yield client, weights
        else:
            yield client, faults.apply(client, weights, trained.server, trained.number)


def _write_ground_truth(writer: WeightDatasetWriter, faults: FaultInjection) -> None:
    if faults.ground_truth:
        writer.write_ground_truth(faults.ground_truth)


def _recipe(request: GenerateRequest) -> dict[str, Any]:
    """The request as plain values; of paths only the names, which say enough to a reader."""
    recipe = dataclasses.asdict(request)
    unused = {
        "perturb": ("data", "partition", "local_epochs", "batch_size", "learning_rate"),
        "train": ("stddev", "relative"),
    }
    for name in unused[request.mode]:
        del recipe[name]
    for name in ("architecture", "data"):
        if _is_file(str(recipe.get(name, ""))):
            recipe[name] = Path(recipe[name]).name
    recipe["faults"] = list(request.faults)
    return recipe
