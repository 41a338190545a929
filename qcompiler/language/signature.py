"""The inputs and outputs of a decoder graph, as its session states them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qcompiler.errors import ModelError, UnsupportedError

if TYPE_CHECKING:
    import onnxruntime

INPUT_IDS, ATTENTION_MASK, POSITION_IDS, LOGITS = "input_ids", "attention_mask", "position_ids", "logits"
_LOGITS_TYPES = ("tensor(float)", "tensor(float16)")
_PAST = re.compile(r"past_key_values\.(\d+)\.(key|value)")


@dataclass(frozen=True)
class CacheSlot:
    """One tensor of the cache, ``[batch, heads, tokens, width]``.

    Attributes:
        past, present: its names as an input and as an output.
        kind: element type as the runtime spells it: ``tensor(float)``, ``tensor(float16)``, ``tensor(int8)``.
        heads, width: its fixed dimensions.
    """

    past: str
    present: str
    kind: str
    heads: int
    width: int


@dataclass(frozen=True)
class Signature:
    """What a decoder graph takes and gives.

    Attributes:
        slots: the cache; empty where the graph has none.
        has_mask, has_positions: whether ``attention_mask`` and ``position_ids`` are among the inputs.
        batch, length: fixed dimensions of ``input_ids``; None where free.
        vocabulary: fixed last dimension of ``logits``; None where free.
    """

    slots: tuple[CacheSlot, ...]
    has_mask: bool
    has_positions: bool
    batch: int | None
    length: int | None
    vocabulary: int | None


def read_signature(session: onnxruntime.InferenceSession, model: Path) -> Signature:
    """Read the signature of an open session.

    Raises:
        ModelError: no ``input_ids`` or no ``logits``: this is no language model.
        UnsupportedError: an input that generation cannot fill, a cache of unknown shape, or logits in another type.
    """
    inputs = {value.name: value for value in session.get_inputs()}
    outputs = {value.name: value for value in session.get_outputs()}
    if INPUT_IDS not in inputs or LOGITS not in outputs:
        raise ModelError(
            f"{model} is no language model: expected an input {INPUT_IDS!r} and an output {LOGITS!r}, it has "
            f"{', '.join(inputs)} -> {', '.join(outputs)}; export one with `qcompile export`."
        )
    pasts = [name for name in inputs if _PAST.fullmatch(name)]
    unknown = sorted(set(inputs) - {INPUT_IDS, ATTENTION_MASK, POSITION_IDS, *pasts})
    if unknown:
        raise UnsupportedError(
            f"{model} has the input {unknown[0]!r}, which generation cannot fill; export a text decoder with "
            "`qcompile export`."
        )
    if outputs[LOGITS].type not in _LOGITS_TYPES:
        raise UnsupportedError(
            f"{model} gives logits of {outputs[LOGITS].type}, expected {' or '.join(_LOGITS_TYPES)}; export it again."
        )
    ids, logits = inputs[INPUT_IDS].shape, outputs[LOGITS].shape
    return Signature(
        slots=tuple(_slot(inputs[name], outputs, model) for name in pasts),
        has_mask=ATTENTION_MASK in inputs,
        has_positions=POSITION_IDS in inputs,
        batch=_fixed(ids[0]),
        length=_fixed(ids[-1]),
        vocabulary=_fixed(logits[-1]),
    )


def _slot(past: onnxruntime.NodeArg, outputs: dict[str, onnxruntime.NodeArg], model: Path) -> CacheSlot:
    present = past.name.replace("past_key_values", "present", 1)
    if present not in outputs:
        raise ModelError(
            f"{model} takes {past.name} but does not give {present}; export it again with `qcompile export`."
        )
    dims = [_fixed(dim) for dim in past.shape]
    if len(dims) != 4 or dims[1] is None or dims[3] is None:
        raise UnsupportedError(
            f"{model}: {past.name} has the shape {past.shape}, expected [batch, heads, tokens, width] with fixed "
            "heads and width; export it again with `qcompile export`."
        )
    return CacheSlot(past.name, present, past.type, dims[1], dims[3])


def _fixed(dim: object) -> int | None:
    return dim if isinstance(dim, int) and dim > 0 else None
