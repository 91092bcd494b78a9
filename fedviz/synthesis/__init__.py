"""Clients that are perturbed, and faults that are injected with their ground truth known."""
