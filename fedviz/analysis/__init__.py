"""Analysis of weights, in NumPy: pure functions over datasets and arrays."""
