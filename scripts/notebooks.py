"""Run the notebooks from a clean kernel and keep their outputs.

make notebooks
python scripts/notebooks.py [NOTEBOOK ...]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "notebooks"
CELL_TIMEOUT_S = 240


def notebooks() -> list[Path]:
    return sorted(FOLDER.glob("*.ipynb"))


def executed(path: Path, data_dir: Path) -> Any:
    """The notebook with fresh outputs, run by this Python in a kernel of its own; measurements go to ``data_dir``.

    Raises nbclient's CellExecutionError with the traceback of the cell that failed.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    imported_from = os.pathsep.join(filter(None, sys.path))
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        record_timing=False,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute(env={**os.environ, "ADVISOR_DATA_DIR": str(data_dir), "PYTHONPATH": imported_from})
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
    return notebook


def main() -> None:
    import nbformat

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path)
    for path in parser.parse_args().notebooks or notebooks():
        with tempfile.TemporaryDirectory() as data_dir:
            nbformat.write(executed(path, Path(data_dir)), path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
