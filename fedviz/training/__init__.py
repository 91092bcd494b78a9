"""Architectures, training data, partitions, and local training in TensorFlow Federated."""
