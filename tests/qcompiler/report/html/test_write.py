"""Where pages go: what cannot be written is refused before anything runs, and nothing is left half-written."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from qcompiler.errors import OutputError, UnsupportedError
from qcompiler.report.html.write import require_writable, write_page
from tests.qcompiler.report.html.pages import page


def test_a_page_is_written_whole_and_replaces_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    write_page(page(2), path)
    write_page(page(3), path)
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [item.name for item in path.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.onnx", "does not end in .html"),
        ("folder.html", "is a folder"),
        ("file/report.html", "is no folder"),
    ],
)
def test_impossible_places_are_refused(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=words):
        require_writable(tmp_path / name)


def test_missing_libraries_are_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def without_plotly(name: str, *rest: Any) -> Any:
        return None if name == "plotly" else find(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without_plotly)
    with pytest.raises(UnsupportedError, match=r"a report needs plotly.*pip install 'qcompiler\[report\]'"):
        require_writable(tmp_path / "report.html")


def test_a_failure_leaves_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError, match="No space left on device; choose another place"):
        write_page(page(2), path)
    assert [item.read_text() for item in tmp_path.iterdir()] == ["old"]
