"""Check what a built sdist and wheel contain: ``python scripts/check_dist.py dist/``."""

from __future__ import annotations

import os
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAPPED_FOLDERS = ("passes", "backends", "models")


def source_files(folder: str) -> set[str]:
    """Return the files below a root folder, relative to the checkout, without caches and linked folders."""
    found = set()
    for path, folders, names in os.walk(ROOT / folder, followlinks=False):
        folders[:] = [name for name in folders if name != "__pycache__"]
        found |= {(Path(path) / name).relative_to(ROOT).as_posix() for name in names}
    return found


def package_files() -> set[str]:
    """Return where in an installed package every file of the compiler must be."""
    mapped = {f"qcompiler/{file}" for folder in MAPPED_FOLDERS for file in source_files(folder)}
    return source_files("qcompiler") | mapped


def wheel_defects(names: list[str]) -> list[str]:
    """Return what is wrong with the file names of a wheel."""
    defects = [f"{name} is there {count} times" for name, count in Counter(names).items() if count > 1]
    defects += [f"{name} is missing" for name in sorted(package_files() - set(names))]
    for name in names:
        top = name.partition("/")[0]
        if top != "qcompiler" and not top.endswith(".dist-info"):
            defects.append(f"{name} lies outside the package")
        if "__pycache__" in name:
            defects.append(f"{name} is a cache")
    return defects


def sdist_defects(archive: tarfile.TarFile) -> list[str]:
    """Return what is wrong with a source distribution: it must hold the root folders themselves."""
    members = {member.name.partition("/")[2]: member for member in archive.getmembers()}
    wanted = {file for folder in (*MAPPED_FOLDERS, "qcompiler", "tests") for file in source_files(folder)}
    return [
        f"{name} is missing" for name in sorted(wanted) if name not in members or not members[name].isfile()
    ]


def main(folder: Path) -> int:
    """Print every defect of the one sdist and the one wheel in ``folder``; return the exit code."""
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    with tarfile.open(sdist) as archive:
        defects = [f"{sdist.name}: {defect}" for defect in sdist_defects(archive)]
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
    defects += [f"{wheel.name}: {defect}" for defect in wheel_defects(names)]
    print("\n".join(defects) or f"{wheel.name}: {len(names)} files, as in the checkout")
    return 1 if defects else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
