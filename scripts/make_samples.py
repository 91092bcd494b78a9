"""Make the datasets in sample_data/ anew: real federated training, from fixed seeds."""

from __future__ import annotations

from pathlib import Path

from fedviz.dataset import WeightDataset
from fedviz.describe import dataset_text
from fedviz.generation import GenerateRequest, generate

FOLDER = Path(__file__).parents[1] / "sample_data"

MLP = GenerateRequest(
    architecture="digits-mlp",
    mode="train",
    clients=10,
    rounds=5,
    partition="dirichlet:0.3",
    seed=1,
)
CNN = GenerateRequest(
    architecture="digits-cnn",
    mode="train",
    clients=8,
    rounds=6,
    partition="dirichlet:0.5",
    seed=2,
)
FAULTS = GenerateRequest(
    architecture="digits-mlp",
    mode="train",
    clients=14,
    rounds=2,
    partition="dirichlet:1",
    seed=3,
    faults=(
        "c01:transpose:dense/kernel",
        "c02:dtype:float64",
        "c03:missing",
        "c04:extra:dense_1/scale",
        "c05:order",
        "c07:nan",
        "c08:inf",
        "c09:scale:10",
        "c10:sign-flip",
        "c12:label-flip",
    ),
)
SAMPLES = {"digits-mlp.h5": MLP, "digits-cnn.h5": CNN, "digits-faults.h5": FAULTS}


def main() -> None:
    """Make every sample and say what is in it."""
    for name, request in SAMPLES.items():
        path = generate(request, FOLDER / name)
        with WeightDataset(path) as dataset:
            print(dataset_text(dataset), end="\n\n")


if __name__ == "__main__":
    main()
