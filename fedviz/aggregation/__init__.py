"""Averaging through TensorFlow Federated (TFF).

:mod:`~fedviz.aggregation.average` is what others call. Below it,
:mod:`~fedviz.aggregation.federated_mean` holds the TFF computations,
:mod:`~fedviz.aggregation.context` runs them, :mod:`~fedviz.aggregation.worker` is the process they
run in, and :mod:`~fedviz.aggregation.tf_dataset` gives a round as TFF's clients' data.

Importing this package imports neither TensorFlow nor TFF; importing these modules may.
"""
