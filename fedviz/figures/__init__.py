"""Numbers in, plotly figures out: no files, no session state, no Streamlit.

Every figure function takes a :class:`~fedviz.figures.theme.Theme` and returns a complete
``plotly.graph_objects.Figure``: template, height and margins are set.
"""
