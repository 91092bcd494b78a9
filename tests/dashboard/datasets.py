"""Datasets that are not as a page would like them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fedviz.signature import Signature, TensorSpec
from fedviz.writer import ClientEntry, WeightDatasetWriter
from tests.conftest import SIGNATURE, random_weights

NASTY = "**bold** <b>x</b> [a](http://x) :red[y] $z$ `code`"
NASTY_FILE = "**bold** <b>x [a](x) :red[y] $z$ `code`.h5"

ZOO = Signature(
    (
        TensorSpec("scale", (), "float32"),
        TensorSpec("bias", (7,), "float64"),
        TensorSpec("kernel", (3, 5), "bfloat16"),
        TensorSpec("half", (2, 2), "float16"),
        TensorSpec("conv", (3, 3, 2, 4), "float32"),
        TensorSpec("large", (600, 300), "float32"),
        TensorSpec("empty", (0, 3), "float32"),
        TensorSpec("steps", (3,), "int32"),
        TensorSpec("mask", (2, 2), "bool"),
    )
)


def write(
    path: Path,
    clients: Sequence[str] = ("c0", "c1", "c2"),
    *,
    signature: Signature = SIGNATURE,
    server: bool = True,
    aggregate: bool = True,
    rounds: int = 1,
    own_signatures: Mapping[str, Signature] | None = None,
) -> Path:
    """Random weights of a signature; ``own_signatures`` are those of divergent clients."""
    rng = np.random.default_rng(0)
    own = own_signatures or {}
    with WeightDatasetWriter(path, signature) as writer:
        for _ in range(rounds):
            entries = [ClientEntry(c, 10 + i, own.get(c)) for i, c in enumerate(clients)]
            start = random_weights(signature, rng) if server else None
            with writer.round(entries, start) as round_:
                for client in clients:
                    theirs = own.get(client, signature)
                    arrays = random_weights(theirs, rng)
                    named = dict(zip(theirs.names, arrays, strict=True))
                    round_.write_client(client, named)
                if aggregate:
                    made = random_weights(signature, rng)
                    round_.write_aggregate("mean", made, aggregator="mean", weighting="uniform")
    return path
