"""Running a part of a model on values that come from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.backends.run_feed import run_feed
from qcompiler.calibration.tapgraph import keep_outputs, tappable_values
from qcompiler.data.feeds import Feed

Array = npt.NDArray[Any]
_PREFIX = "cut::"
_DTYPES = {
    "tensor(float)": ir.DataType.FLOAT,
    "tensor(float16)": ir.DataType.FLOAT16,
    "tensor(double)": ir.DataType.DOUBLE,
    "tensor(int64)": ir.DataType.INT64,
    "tensor(int32)": ir.DataType.INT32,
    "tensor(int8)": ir.DataType.INT8,
    "tensor(uint8)": ir.DataType.UINT8,
    "tensor(bool)": ir.DataType.BOOL,
}
"""Types as the runtime names them."""


class CutModel:
    """A model in which the readers of some values read arrays that are fed, while the values themselves are still made.

    So every node can be run on given inputs and its own result be read, all in one run.
    """

    def __init__(
        self,
        model: ir.Model,
        wanted: Sequence[str],
        fed: Iterable[str] = (),
        *,
        instead: Mapping[str, str] | None = None,
        threads: int = 1,
    ) -> None:
        """Open the part of ``model`` that makes ``wanted``.

        Args:
            model: not changed.
            wanted: names of values of the main graph; nothing is run where there are none.
            fed: names of float values that are given to their readers.
            instead: further values whose readers get another one, as it is fed or made.
            threads: within an operator.

        Raises:
            ModelError: the runtime refuses the part.
        """
        from qcompiler.backends.onnxruntime.session import open_model, session_options

        part = model.clone()
        values = tappable_values(part)
        part.graph.outputs.clear()
        dtypes = {name: values[name].dtype or ir.DataType.FLOAT for name in fed}
        inputs = {name: _input_for(part, values[name]) for name in dtypes}
        for name, source in (instead or {}).items():
            ir.convenience.replace_all_uses_with(values[name], inputs.get(source, values[source]))
        keep_outputs(part, [values[name] for name in dict.fromkeys(wanted)])
        for value in list(part.graph.inputs):
            if not value.uses() and not value.is_graph_output():
                part.graph.inputs.remove(value)
        options = session_options(threads=threads, optimize=False)
        self._session = open_model(part, options) if wanted else None
        self._fed = {_PREFIX + name: name for name in inputs}
        self._dtypes = {name: dtype.numpy() for name, dtype in dtypes.items()}

    def run(self, feed: Feed, fed: Mapping[str, Array] | None = None, *, index: int = 0) -> dict[str, Array]:
        """Run once.

        Args:
            feed: the graph's own inputs.
            fed: arrays of the values that are fed, by name, in any float type.
            index: of the feed, for messages.

        Raises:
            CalibrationError: the feed does not fit.
        """
        if self._session is None:
            return {}
        known = fed or {}
        given = {
            key: _as_type(known[name], self._dtypes[name]) for key, name in self._fed.items() if name in known
        }
        return {
            name: np.asarray(array)
            for name, array in run_feed(self._session, {**feed, **given}, index).items()
        }


def _as_type(array: Array, dtype: npt.DTypeLike) -> Array:
    """In another float type; a mask of float32 stays finite in float16."""
    if array.dtype == dtype or not np.issubdtype(dtype, np.floating):
        return array.astype(dtype, copy=False)
    info = np.finfo(np.dtype(dtype))
    return (
        np.clip(array, info.min, info.max).astype(dtype)
        if array.dtype.itemsize > np.dtype(dtype).itemsize
        else array.astype(dtype)
    )


def _input_for(model: ir.Model, value: ir.Value) -> ir.Value:
    dtype = value.dtype if value.dtype is not None else ir.DataType.FLOAT
    fed = ir.Value(name=_PREFIX + str(value.name), type=ir.TensorType(dtype))
    ir.convenience.replace_all_uses_with(value, fed)
    model.graph.inputs.append(fed)
    return fed


def note_types(model: ir.Model) -> None:
    """Give values of the main graph that have no type the one that the runtime infers, in place.

    Raises:
        ModelError: the runtime refuses the model.
    """
    from qcompiler.backends.onnxruntime.session import open_model, session_options

    values = {str(v.name): v for node in model.graph for v in node.outputs if v.name and v.dtype is None}
    if not values:
        return
    part = model.clone()
    made = tappable_values(part)
    keep_outputs(part, [made[name] for name in values])
    types = open_model(part, session_options(threads=1, optimize=False)).output_types
    for name, value in values.items():
        dtype = _DTYPES.get(types[name])
        if dtype is not None:
            value.type = ir.TensorType(dtype)
