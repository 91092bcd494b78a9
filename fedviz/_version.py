"""The version, in the one place that needs no installed package."""

__version__ = "0.1.0"
PRODUCER = f"fedviz {__version__}"
