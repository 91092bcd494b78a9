"""Repairing a dataset: what could be done about each mismatch, and a new dataset where it is.

A plan is made of a check (:mod:`~fedviz.repair.planning`), looked at, changed and applied
(:mod:`~fedviz.repair.application`); the dataset that it is made for stays as it is.
"""

from fedviz.repair.application import Preview, apply_repairs, preview
from fedviz.repair.planning import repair_plan
from fedviz.repair.plans import Repair, RepairKind, RepairOption, RepairPlan

__all__ = [
    "Preview",
    "Repair",
    "RepairKind",
    "RepairOption",
    "RepairPlan",
    "apply_repairs",
    "preview",
    "repair_plan",
]
