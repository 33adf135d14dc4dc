"""The notebook of the examples runs from beginning to end, and shows what it says it shows."""

from collections import Counter
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "examples" / "first_head.ipynb"
SECONDS = 480


def read() -> Any:
    return nbformat.read(NOTEBOOK, 4)  # type: ignore[no-untyped-call]


def test_the_committed_notebook_is_without_outputs() -> None:
    cells = [cell for cell in read().cells if cell.cell_type == "code"]
    assert len(cells) >= 9 and not any(cell.outputs or cell.execution_count for cell in cells)


@pytest.mark.timeout(SECONDS)
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook, place = read(), {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=place).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    shown = Counter(kind for output in outputs for kind in output.get("data", {}))
    assert shown["image/png"] >= 3 and shown["text/html"] >= 2  # live curve, ablation, report; film, link
    assert any("final evaluation at 400 env steps" in output.get("text", "") for output in outputs)
    assert (tmp_path / "report" / "report.html").is_file()
    logged = next(cell for cell in notebook.cells if cell.source.startswith('runs["reward", 0].metrics()'))
    assert "array([" in logged.outputs[0].data["text/plain"]
