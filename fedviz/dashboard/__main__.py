"""The dashboard's server: ``python -m fedviz.dashboard app.py``, with options of ``streamlit run``.

It is Streamlit's own, which would load what the pages need when the first visitor is there.
"""

from __future__ import annotations

import sys

from streamlit.web.cli import main

from fedviz.dashboard import preloading

if __name__ == "__main__":
    preloading.start()
    main(["run", *sys.argv[1:]], prog_name="streamlit")
