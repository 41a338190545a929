"""What a decoder with a cache wants beside its tokens, where the data holds tokens only: a start without a past."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from qcompiler.data.feeds import Array, InputSpec

TOKENS, MASK, POSITIONS = "input_ids", "attention_mask", "position_ids"


def empty_past(spec: InputSpec) -> Array | None:
    """A cache without tokens, less its batch axis, for inputs ``[batch, heads, past_length, width]``; else None."""
    dims = (spec.shape or ())[1:]
    if "past" not in spec.name or not any(isinstance(dim, str) for dim in dims):
        return None
    return np.zeros([dim if isinstance(dim, int) else 0 for dim in dims], spec.dtype)


def missing_inputs(
    record: Mapping[str, object], specs: Sequence[InputSpec], source: Mapping[str, str]
) -> dict[str, Array]:
    """Inputs of a decoder with a cache that ``record`` lacks, made from its tokens ``[batch, length]``.

    Args:
        source: name in the data of each model input.

    Returns:
        By model input: an empty past, a mask of ones, positions from zero. Nothing for other models, for a record
        without tokens, and for a record that brings a past of its own.
    """
    pasts = {spec.name: past for spec in specs if (past := empty_past(spec)) is not None}
    if not pasts or source.get(TOKENS) not in record or any(source[name] in record for name in pasts):
        return {}
    shape = np.asarray(record[source[TOKENS]]).shape
    shape = shape if len(shape) == 2 else (1, 1)  # the tokens themselves will be refused
    made: dict[str, Array] = {
        name: np.zeros((shape[0], *past.shape), past.dtype) for name, past in pasts.items()
    }
    for spec in specs:
        if spec.name == MASK and source[MASK] not in record:
            made[MASK] = np.ones(shape, spec.dtype)
        if spec.name == POSITIONS and source[POSITIONS] not in record:
            made[POSITIONS] = np.broadcast_to(np.arange(shape[1]), shape).astype(spec.dtype)
    return made
