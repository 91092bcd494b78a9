"""Weights from the files of other programs."""
