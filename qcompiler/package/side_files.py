"""What stands beside a language model travels with it: tokenizer, configurations, ``genai_config.json``.

So the folder of a compiled model is a language-model folder again. Weights are never copied, and nothing is where the
compiled model stands beside its source: there the files are already, and name the source.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from qcompiler.errors import ModelError
from qcompiler.models.checkpoint_files import SIDE_FILES
from qcompiler.package.write import cannot_write

GENAI_CONFIG, GENERATION_CONFIG = "genai_config.json", "generation_config.json"


@dataclass(frozen=True)
class SideFiles:
    """Files to copy as they are, and ``genai_config.json`` with the new model's name; both empty for other models."""

    copied: tuple[Path, ...] = ()
    genai: str = ""

    def write(self, folder: Path) -> None:
        """Write all of them into ``folder``.

        Raises:
            OutputError: the disk is full or a file cannot be read.
        """
        try:
            for path in self.copied:
                shutil.copyfile(path, folder / path.name)
            if self.genai:
                (folder / GENAI_CONFIG).write_text(self.genai, encoding="utf-8")
        except OSError as error:
            raise cannot_write(folder, error) from error


def read_side_files(source: object, result: Path) -> SideFiles:
    """What belongs beside ``result`` when ``source`` lies in a language-model folder.

    Args:
        source: the model as given to compile; one in memory has no folder.
        result: the path of the compiled model.

    Raises:
        ModelError: ``genai_config.json`` is no JSON object.
    """
    if not isinstance(source, str | Path):
        return SideFiles()
    folder = Path(source).parent
    is_language_model = any((folder / name).is_file() for name in (GENAI_CONFIG, GENERATION_CONFIG))
    if not is_language_model or folder.resolve() == result.parent.resolve():
        return SideFiles()
    copied = tuple(folder / name for name in SIDE_FILES if (folder / name).is_file())
    return SideFiles(copied, _renamed(folder / GENAI_CONFIG, result.name))


def _renamed(path: Path, filename: str) -> str:
    """The text of ``genai_config.json`` for another model file; empty where there is none."""
    if not path.is_file():
        return ""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        config["model"]["decoder"]["filename"] = filename
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path} has no model.decoder to name the compiled model in ({error!r}); mend it, or move it away."
        ) from error
    return json.dumps(config, indent=4) + "\n"
