"""Starting the dashboard from the command."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from fedviz.dataset import WeightDataset
from fedviz.errors import FedvizError

__all__ = ["serve"]


def serve(file: Path | None, port: int, data_dir: Path | None) -> None:
    """Become the dashboard's server.

    Parameters
    ----------
    file : Path, optional
        Dataset to open first.
    port : int
        On 127.0.0.1.
    data_dir : Path, optional
        Folder that the dashboard reads and writes.

    Raises
    ------
    FedvizError
        The file is no dataset, or this installation has no dashboard.
    """
    app = Path(__file__).parents[1] / "app.py"
    if not app.is_file():
        raise FedvizError("this installation has no dashboard; run 'make run' in a clone.")
    environment = dict(os.environ)
    if file is not None:
        WeightDataset(file).close()
        environment["FEDVIZ_OPEN"] = str(file.resolve())
    if data_dir is not None:
        environment["FEDVIZ_DATA_DIR"] = str(data_dir.resolve())
    command = [sys.executable, "-m", "fedviz.dashboard", str(app), "--server.port", str(port)]
    # Streamlit finds its configuration in the folder that it is started in.
    os.chdir(app.parent)
    os.execve(command[0], command, environment)
