"""fedviz inspects federated weight datasets.

Names are loaded when they are used: ``import fedviz`` imports neither TensorFlow nor plotly.

>>> import fedviz as fv
>>> ds = fv.open("clients.h5")                # doctest: +SKIP
>>> fv.check(ds).consistent                   # doctest: +SKIP
>>> fv.average(ds).weights["dense/kernel"]    # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedviz._version import __version__

if TYPE_CHECKING:
    from fedviz.aggregation.average import average
    from fedviz.analysis.before_after import HeatmapView
    from fedviz.analysis.check import check
    from fedviz.analysis.check_report import group_by_pattern
    from fedviz.comparison import Candidate, compare
    from fedviz.dataset import WeightDataset
    from fedviz.errors import FedvizError
    from fedviz.exporters import export_weights
    from fedviz.generation import GenerateRequest, generate, synthesize
    from fedviz.importing import import_clients, proposed_clients
    from fedviz.pictures import heatmap
    from fedviz.repair import apply_repairs, preview, repair_plan
    from fedviz.report import write_report
    from fedviz.signature import Signature, TensorSpec, compare_signatures
    from fedviz.tff_types import diff_types, parse_paste
    from fedviz.training.keras_weights import assign_weights, extract_weights
    from fedviz.writer import ClientEntry, WeightDatasetWriter

__all__ = [
    "Candidate",
    "ClientEntry",
    "FedvizError",
    "GenerateRequest",
    "HeatmapView",
    "Signature",
    "TensorSpec",
    "WeightDataset",
    "WeightDatasetWriter",
    "__version__",
    "apply_repairs",
    "assign_weights",
    "average",
    "check",
    "compare",
    "compare_signatures",
    "diff_types",
    "export_weights",
    "extract_weights",
    "generate",
    "group_by_pattern",
    "heatmap",
    "import_clients",
    "open",
    "parse_paste",
    "preview",
    "proposed_clients",
    "repair_plan",
    "synthesize",
    "write_report",
]

_HOMES = {
    "Candidate": "fedviz.comparison",
    "ClientEntry": "fedviz.writer",
    "FedvizError": "fedviz.errors",
    "GenerateRequest": "fedviz.generation",
    "HeatmapView": "fedviz.analysis.before_after",
    "Signature": "fedviz.signature",
    "TensorSpec": "fedviz.signature",
    "WeightDataset": "fedviz.dataset",
    "WeightDatasetWriter": "fedviz.writer",
    "apply_repairs": "fedviz.repair",
    "assign_weights": "fedviz.training.keras_weights",
    "average": "fedviz.aggregation.average",
    "check": "fedviz.analysis.check",
    "compare": "fedviz.comparison",
    "compare_signatures": "fedviz.signature",
    "diff_types": "fedviz.tff_types",
    "export_weights": "fedviz.exporters",
    "extract_weights": "fedviz.training.keras_weights",
    "generate": "fedviz.generation",
    "group_by_pattern": "fedviz.analysis.check_report",
    "heatmap": "fedviz.pictures",
    "import_clients": "fedviz.importing",
    "parse_paste": "fedviz.tff_types",
    "preview": "fedviz.repair",
    "proposed_clients": "fedviz.importing",
    "repair_plan": "fedviz.repair",
    "synthesize": "fedviz.generation",
    "write_report": "fedviz.report",
}


def open(path: str | Path) -> WeightDataset:
    """Open a dataset; see :class:`fedviz.dataset.WeightDataset`."""
    from fedviz.dataset import WeightDataset

    return WeightDataset(path)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fedviz' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
