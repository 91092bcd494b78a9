"""What TFF's processes measured, and what goes with some of them, as JSON can hold it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedviz.aggregation.privacy import privacy_loss
from fedviz.aggregation.tff_aggregators import (
    SIMULATED_IN_THE_CLEAR,
    TffAggregator,
    expected_clients,
)
from fedviz.signature import TensorSpec

__all__ = ["plain", "what_goes_with", "what_was_measured"]

# The longest vector of measurements that is kept whole.
_LONGEST_LIST = 64


def what_was_measured(measured: Any) -> dict[str, Any]:
    """What the process measured, by path, and the clients that it zeroed or clipped."""
    process = dict(_leaves(measured, ""))
    found: dict[str, Any] = {"process": process}
    for leaf, name in (
        ("zeroed_count", "zeroed_clients"),
        ("zeroing_norm", "zeroing_norm"),
        ("clipped_count", "clipped_clients"),
        ("clipping_norm", "clipping_norm"),
    ):
        values = [v for path, v in process.items() if path.rsplit(".", 1)[-1] == leaf]
        if values:
            found[name] = values[0]
    return found


def _leaves(measured: Any, path: str) -> list[tuple[str, Any]]:
    """Path and plain value of every measurement, in TFF's order."""
    if isinstance(measured, Mapping):
        items = list(measured.items())
    elif hasattr(measured, "_asdict"):
        items = list(measured._asdict().items())
    elif isinstance(measured, list | tuple):
        items = [(str(i), value) for i, value in enumerate(measured)]
    else:
        return [(path, plain(measured))]
    return [leaf for name, value in items for leaf in _leaves(value, f"{path}.{name}".lstrip("."))]


def plain(value: Any) -> Any:
    """A value that JSON can hold; a number that is not finite is None."""
    array = np.asarray(value)
    if array.ndim:
        return [plain(v) for v in array.ravel()[:_LONGEST_LIST]]
    item = array.item()
    if isinstance(item, bytes):
        return item.decode(errors="replace")
    return None if isinstance(item, float) and not math.isfinite(item) else item


def what_goes_with(
    aggregator: TffAggregator,
    settings: Mapping[str, Any],
    specs: Sequence[TensorSpec],
    num_clients: int,
) -> dict[str, Any]:
    """What goes with some aggregators only."""
    extras: dict[str, Any] = {}
    simulated = aggregator.name in ("secure", "ddp-secure") or settings.get("sum") == "secure"
    if simulated:
        extras["simulated"] = SIMULATED_IN_THE_CLEAR
    if aggregator.name == "compression" or settings.get("sum") == "compressed":
        before, after = _bits(settings, specs)
        extras |= {"bits_per_client_before": before, "bits_per_client_after": after}
    if "noise_multiplier" in settings:
        extras["privacy"] = _privacy(aggregator, settings, num_clients)
    return extras


# TensorFlow's encoder packs 28 bits into each int32, and sends the least and the largest value.
_PACKED_BITS = 28


def _bits(settings: Mapping[str, Any], specs: Sequence[TensorSpec]) -> tuple[int, int]:
    """Bits that a client sends without and with the quantisation."""
    bits, threshold = settings["quantization_bits"], settings["threshold"]
    packed = sum(
        32 * -(-spec.size * bits // _PACKED_BITS) + 64 if spec.size > threshold else 32 * spec.size
        for spec in specs
    )
    return 32 * sum(spec.size for spec in specs), packed


def _privacy(
    aggregator: TffAggregator, settings: Mapping[str, Any], num_clients: int
) -> dict[str, Any]:
    clients = expected_clients(settings, num_clients)
    population = settings["population"]
    loss = privacy_loss(
        settings["noise_multiplier"],
        clients,
        None if population == "cohort" else population,
        settings["num_rounds"],
        settings["delta"],
    )
    notes = []
    if _on(settings.get("zeroing")):
        notes.append(
            "The adaptive zeroing norm and the counts shown here are made of the clients without "
            "noise, and epsilon does not count them."
        )
    if aggregator.name == "ddp-secure":
        notes.append(
            "Epsilon is that of the Gaussian mechanism with this noise multiplier; the Skellam "
            "noise and the rounding to integers make the true one slightly larger."
        )
    if clients != num_clients:
        notes.append(f"The sum is divided by {clients:g} clients, and {num_clients} took part.")
    return {**loss.measurements(), "notes": notes}


def _on(word: Any) -> bool:
    return bool(word == "yes")
