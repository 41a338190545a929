"""What the compiler runs a model on: feeds, the inputs they must fit, and a source of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.errors import UnsupportedError

Array = npt.NDArray[Any]
Feed = Mapping[str, Array]
"""One array per model input: what one run of a session takes."""

Dim = int | str | None


@dataclass(frozen=True)
class InputSpec:
    """One input of a model.

    Attributes:
        name: name of the graph input.
        dtype: NumPy dtype of its elements (``ml_dtypes`` for bfloat16 and float8, object for strings).
        shape: fixed dimensions as integers, symbolic ones by name, unnamed ones as None; None when even the
            rank is unknown.
        ids: rows of the table that its integers choose from; None where they choose from none.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[Dim, ...] | None
    ids: int | None = None

    def __str__(self) -> str:
        dims = (
            "of any shape" if self.shape is None else f"[{', '.join(str(dim or '?') for dim in self.shape)}]"
        )
        return f"{self.name} {self.dtype} {dims}"


@runtime_checkable
class FeedSource(Protocol):
    """Feeds that can be read any number of times, in the same order, a batch in memory at a time."""

    def __iter__(self) -> Iterator[Feed]: ...

    @property
    def description(self) -> str:
        """What the data is, how it was made to fit and what was left out, for the report."""

    @property
    def sha256(self) -> str | None:
        """Hash of the content, for the manifest; computed when first asked for."""

    @property
    def samples(self) -> int | None:
        """Number of samples over all feeds; None when only the number of feeds is known."""


def input_specs(model: ir.Model) -> tuple[InputSpec, ...]:
    """Return what a user must feed, in graph order.

    Initializers that ir_version 3 lists among the graph inputs have a value already: they are left out.

    Raises:
        UnsupportedError: an input is a sequence, an optional, or has no element type.
    """
    graph = model.graph
    return tuple(_spec(value) for value in graph.inputs if value.name not in graph.initializers)


def _spec(value: ir.Value) -> InputSpec:
    name = value.name or ""
    if value.dtype is None or not isinstance(value.type, ir.TensorType):
        kind = "no element type" if value.type is None else f"type {value.type}"
        raise UnsupportedError(
            f"model input {name!r} has {kind}, expected a dense tensor: feed it from a wrapper graph."
        )
    shape = None if value.shape is None else tuple(_dim(dim) for dim in value.shape)
    return InputSpec(name, np.dtype(value.dtype.numpy()), shape, _ids(value))


def _ids(value: ir.Value) -> int | None:
    """Rows of the smallest table that a Gather reads at ``value``."""
    tables = (
        user.inputs[0].const_value
        for user, place in value.uses()
        if (user.op_type, place) == ("Gather", 1) and user.inputs[0] is not None
        if user.attributes.get_int("axis", 0) == 0
    )
    rows = [table.shape[0] for table in tables if table is not None and len(table.shape)]
    return min((size for size in rows if isinstance(size, int)), default=None)


def _dim(dim: int | ir.SymbolicDim) -> Dim:
    return dim if isinstance(dim, int) else dim.value
