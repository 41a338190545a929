"""Export a decoder checkpoint to a language-model folder: one graph with a cache, and all that generating needs.

    OUT/model.onnx (+ .data), genai_config.json, config.json, generation_config.json, tokenizer files

The graph is compared with Transformers in ONNX Runtime before anything is written (``decoder_check``).
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import onnx_ir as ir

from qcompiler.errors import UnsupportedError
from qcompiler.models.checkpoint_files import SIDE_FILES, TOKENIZERS, check_weights
from qcompiler.models.export import check_options
from qcompiler.models.export_check import TOLERANCE
from qcompiler.models.export_checkpoint import architecture, check_directory, load_checkpoint, require_extra
from qcompiler.models.genai_config import FILE as GENAI_CONFIG
from qcompiler.models.genai_config import genai_config
from qcompiler.models.graph_names import tidy
from qcompiler.models.quiet import offline_and_quiet
from qcompiler.models.stored_type import KINDS, store_half
from qcompiler.models.tied_weights import tie
from qcompiler.package.write import publish, staged, write_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from qcompiler.models.cache_graph import CacheGraph, CacheShape

MODEL = "model.onnx"


@dataclass(frozen=True)
class DecoderReport:
    """What was exported and how well it agrees with Transformers.

    Attributes:
        model: the ``.onnx`` file; ``data`` its external weights, None when they are inside.
        architecture: the Transformers class.
        attention: ``"GroupQueryAttention"``, or ``"standard operators"`` with ``attention_reason``.
        layers, kv_heads, head_size: of the cache.
        inputs, outputs: names and shapes, dynamic axes by name.
        weights: type that weights are stored in.
        max_abs_error: of the logits, ONNX Runtime against torch in float32, in prefill and decode.
        same_tokens: greedy tokens that both chose, all that were compared.
        files: all that the folder got.
        notes: what the user should know, e.g. a missing tokenizer.
    """

    model: Path
    data: Path | None
    architecture: str
    opset: int
    attention: str
    attention_reason: str | None
    layers: int
    kv_heads: int
    head_size: int
    inputs: dict[str, tuple[int | str, ...]]
    outputs: dict[str, tuple[int | str, ...]]
    weights: str
    max_abs_error: float
    same_tokens: int
    size_bytes: int
    files: tuple[str, ...]
    notes: tuple[str, ...]


def is_decoder(directory: str | Path) -> bool:
    """Whether ``config.json`` names an architecture that generates text token by token.

    Raises:
        InputError, ModelError: the directory is not a usable checkpoint.
        UnsupportedError: no Transformers, or an architecture that it does not know.
    """
    config = check_directory(Path(directory))
    with offline_and_quiet():
        require_extra()
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NAMES

        name = architecture(config, Path(directory))
    encoders = str(config.get("model_type")) in ("bert", "roberta", "xlm-roberta", "electra", "camembert")
    return name in NAMES.values() and not (encoders and not config.get("is_decoder"))


def export_decoder(
    directory: str | Path,
    folder: str | Path,
    *,
    opset: int | None = None,
    attention: Literal["plain"] | None = None,
    tolerance: float = TOLERANCE,
) -> DecoderReport:
    """Export the checkpoint in ``directory`` to ``folder/model.onnx`` with its cache; never touches the network.

    Args:
        opset: 18 to 23; None takes the exporter's default.
        attention: ``"plain"`` keeps standard operators where GroupQueryAttention would fit.
        tolerance: largest error accepted against torch, relative to the largest logit (at least 1).

    Raises:
        InputError, ModelError: the directory is not a usable checkpoint.
        OptionError: an impossible argument.
        UnsupportedError: no torch or transformers, or an architecture that has no such graph.
        VerificationError: ONNX Runtime and torch disagree; nothing is written.
        OutputError: ``folder`` cannot be written.
    """
    directory, folder = Path(directory), Path(folder)
    check_options(opset, folder / MODEL)
    check_directory(directory)
    stored = check_weights(directory)
    with offline_and_quiet():
        require_extra()
        from qcompiler.models.cache_graph import trace
        from qcompiler.models.decoder_check import Expectation, compare

        model = load_checkpoint(directory, "text-generation")
        _refuse_others(model)
        graph = trace(model, opset=opset, attention=attention)
        tie(graph.program)
        tidy(graph.program, axes(graph.shape))
        expected = Expectation.of(model, graph.shape)
    weights = store_half(graph.program, stored) if stored in KINDS else "float32"
    with staged(folder) as stage:
        write_model(graph.program, stage / MODEL)
        error, tokens = compare(stage / MODEL, expected, tolerance)
        size = sum(path.stat().st_size for path in stage.iterdir())
        write_side_files(directory, stage, graph.shape)
        files = tuple(sorted(path.name for path in stage.iterdir()))
        publish(stage, folder)
    return _report(type(model).__name__, graph, folder, files, stored, weights, (error, tokens, size))


def _report(
    architecture: str,
    graph: CacheGraph,
    folder: Path,
    files: tuple[str, ...],
    stored: str | None,
    weights: str,
    figures: tuple[float, int, int],
) -> DecoderReport:
    return DecoderReport(
        model=folder / MODEL,
        data=folder / f"{MODEL}.data" if f"{MODEL}.data" in files else None,
        architecture=architecture,
        opset=graph.program.opset_imports[""],
        attention="standard operators" if graph.plain else "GroupQueryAttention",
        attention_reason=graph.plain,
        layers=len(graph.shape.kv_heads),
        kv_heads=graph.shape.kv_heads[0],
        head_size=graph.shape.sizes[0],
        inputs={value.name or "": _dims(value) for value in graph.program.graph.inputs},
        outputs={value.name or "": _dims(value) for value in graph.program.graph.outputs},
        weights=weights,
        max_abs_error=figures[0],
        same_tokens=figures[1],
        size_bytes=figures[2],
        files=files,
        notes=_notes(graph, stored, files),
    )


def _refuse_others(model: PreTrainedModel) -> None:
    """``UnsupportedError`` for what is no decoder of text alone."""
    if getattr(model.config, "is_encoder_decoder", False):
        raise UnsupportedError(
            f"{type(model).__name__} is an encoder with a decoder, which needs two graphs; export a single encoder "
            "or decoder checkpoint."
        )


def axes(shape: CacheShape) -> dict[str, dict[int, str]]:
    """Names of the dynamic axes of every input."""
    from qcompiler.models.cache_graph import AXES, PAST_AXES

    past = {
        f"past_key_values.{index}.{part}": PAST_AXES
        for index in range(len(shape.kv_heads))
        for part in ("key", "value")
    }
    return {**AXES, **past}


def write_side_files(directory: Path, stage: Path, shape: CacheShape) -> None:
    """Copy configurations and tokenizer, and write ``genai_config.json``."""
    for name in SIDE_FILES:
        if (directory / name).is_file():
            shutil.copyfile(directory / name, stage / name)
    config, generation = _read(stage / "config.json"), _read(stage / "generation_config.json")
    contents = genai_config(
        config,
        generation,
        filename=MODEL,
        kv_heads=shape.kv_heads[0],
        head_size=shape.sizes[0],
        layers=len(shape.kv_heads),
    )
    (stage / GENAI_CONFIG).write_text(json.dumps(contents, indent=2) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, object]:
    if not path.is_file():
        return {}
    parsed = json.loads(path.read_text(encoding="utf-8"))
    return parsed if isinstance(parsed, dict) else {}


def _notes(graph: CacheGraph, stored: str | None, files: tuple[str, ...]) -> tuple[str, ...]:
    notes = []
    if not any(name in files for name in TOKENIZERS):
        notes.append("the checkpoint has no tokenizer: texts cannot be given to this folder, token ids can")
    if stored not in (None, "float32", *KINDS):
        notes.append(f"weights stored as {stored} were widened to float32, which the CPU computes in")
    if graph.plain is None:
        notes.append(
            "rows of a batch are padded on the right and go on by one token each; one row alone by any number"
        )
    if len(set(graph.shape.kv_heads)) > 1 or len(set(graph.shape.sizes)) > 1:
        notes.append("layers have caches of different shapes, which onnxruntime-genai cannot open")
    return tuple(notes)


def _dims(value: ir.Value) -> tuple[int | str, ...]:
    return tuple(dim if isinstance(dim, int) else str(dim.value or "?") for dim in value.shape or ())
