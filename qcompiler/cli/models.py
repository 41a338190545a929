"""Several models and the data that they run on, for ``compare`` and ``bench``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qcompiler.cli.options import DATA

if TYPE_CHECKING:
    from qcompiler.data import DataOptions, FeedSource

RANDOM = "random"

Data = Annotated[
    str | None,
    typer.Option(
        help="What the models run on: .npz, .npy, .safetensors, .jsonl, a text file, a folder of .npz or of "
        "pictures. Default: random numbers.",
        metavar="PATH",
        rich_help_panel=DATA,
    ),
]


def feeds_for(model: Path, data: str | None, options: DataOptions) -> FeedSource:
    """Feeds that fit ``model``: from ``data``, or random ones.

    Raises:
        CalibrationError: the data cannot be read or does not fit.
    """
    from qcompiler.data import input_specs, open_data
    from qcompiler.load import load_model
    from qcompiler.package.deployed import interface, is_deployed

    described = interface(model) if is_deployed(model) else load_model(model)
    return open_data(data or RANDOM, input_specs(described), options)


def require_files(models: Sequence[Path]) -> list[Path]:
    """The models, each a file or the only one of a folder; a missing one is found before anything is loaded or timed.

    Raises:
        ModelError: a path is no file, or a folder without just one model.
    """
    from qcompiler.errors import ModelError
    from qcompiler.package.deployed import model_in

    found = [model_in(path) for path in models]
    for path in found:
        if not path.is_file():
            raise ModelError(f"{path} is no file; give .onnx or .tvm files, or folders that hold one.")
    return found
