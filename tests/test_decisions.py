"""Decision records have numbers of their own, and what refers to one finds it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
RECORDS = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("[0-9]*.md"))
FOLDERS = ("qcompiler", "passes", "backends", "models", "benchmarks", "tests", "docs")


def test_numbers_count_from_one_and_titles_repeat_them() -> None:
    assert [int(name[:4]) for name in RECORDS] == list(range(1, len(RECORDS) + 1))
    for name in RECORDS:
        first = (ROOT / "docs" / "decisions" / name).read_text("utf-8").splitlines()[0]
        assert first.startswith(f"# {name[:4]} ")


def test_every_reference_is_to_a_record() -> None:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    files += [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    referred = {
        number for path in files for number in re.findall(r"decisions/(\d{4})", path.read_text("utf-8"))
    }
    assert referred <= {name[:4] for name in RECORDS}
