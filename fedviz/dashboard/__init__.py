"""Streamlit glue: the selection, caches, the engine process, and what every page is made of."""
