"""Which of the two exports a checkpoint gets: a decoder with its cache, or one plain forward pass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from qcompiler.errors import OptionError, suggest
from qcompiler.models.checkpoint_files import check_weights
from qcompiler.models.export import ExportReport, export_transformers
from qcompiler.models.export_checkpoint import TASKS, check_directory
from qcompiler.models.export_decoder import MODEL, DecoderReport, export_decoder, is_decoder


@dataclass(frozen=True)
class ExportChoice:
    """What the user asked for; see ``export_transformers`` and ``export_decoder``.

    Attributes:
        cache: whether a decoder gets its cache; None gives it where the output is a folder and nothing else that was
            asked for belongs to the plain forward pass.
    """

    cache: bool | None = None
    task: str | None = None
    opset: int | None = None
    inputs: tuple[str, ...] | None = None
    picture: tuple[int, int] | None = None
    attention: Literal["sdpa", "eager", "plain"] | None = None
    fusions: Literal["cpu"] | None = None

    @property
    def only_without_cache(self) -> list[str]:
        """Options given that mean something for the plain forward pass alone."""
        given = {
            "--task": self.task not in (None, "text-generation"),
            "--input": self.inputs is not None,
            "--image-size": self.picture is not None,
            "--fusions": self.fusions is not None,
            f"--attention {self.attention}": self.attention in ("sdpa", "eager"),
        }
        return [name for name, present in given.items() if present]


def export_checkpoint(
    directory: str | Path, output: str | Path, choice: ExportChoice
) -> ExportReport | DecoderReport:
    """Export ``directory`` to a folder (``model.onnx`` in it) or to a file that ends in ``.onnx``.

    Raises:
        OptionError: options that exclude each other.
        QCompilerError: as ``export_transformers`` and ``export_decoder``.
    """
    output = Path(output)
    _refuse_early(Path(directory), choice)
    is_file = output.suffix == ".onnx"
    if _with_cache(directory, choice, is_file=is_file):
        attention = choice.attention if choice.attention == "plain" else None
        return export_decoder(directory, output, opset=choice.opset, attention=attention)
    if choice.attention == "plain":
        raise OptionError(
            "--attention plain is about the graph with a cache; choose sdpa or eager, or a folder with -o."
        )
    report = export_transformers(
        directory,
        output if is_file else output / MODEL,
        task=choice.task,
        opset=choice.opset,
        inputs=choice.inputs,
        picture=choice.picture,
        attention=choice.attention,
        fusions=choice.fusions,
    )
    return report if is_file else replace(report, notes=_left_out(directory, choice))


def _left_out(directory: str | Path, choice: ExportChoice) -> tuple[str, ...]:
    """That a folder has no cache where it would have had one but for an option."""
    if choice.cache is not None or not choice.only_without_cache or not is_decoder(directory):
        return ()
    option = choice.only_without_cache[0]
    return (
        f"without cache and tokenizer, because of {option}: leave it out for a folder that generates text",
    )


def _refuse_early(directory: Path, choice: ExportChoice) -> None:
    """What can be seen before torch is loaded, which takes long."""
    check_directory(directory)
    check_weights(directory)
    if choice.task is not None and choice.task not in TASKS:
        raise OptionError(f"unknown task {choice.task!r}.{suggest(choice.task, TASKS)}")


def _with_cache(directory: str | Path, choice: ExportChoice, *, is_file: bool) -> bool:
    if choice.cache is False:
        return False
    if choice.cache is None and (is_file or choice.only_without_cache):
        return False
    if is_file:
        raise OptionError(
            "--cache makes a folder of model, tokenizer and configurations; give a folder with -o."
        )
    if choice.only_without_cache:
        raise OptionError(f"{choice.only_without_cache[0]} excludes --cache; leave one of them out.")
    decoder = is_decoder(directory)
    if choice.cache and not decoder:
        raise OptionError(f"{directory} is no decoder of text and has no cache; leave --cache out.")
    return decoder
