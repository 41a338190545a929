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
        inputs = {name: _input_for(part, values[name]) for name in dict.fromkeys(fed)}
        for name, source in (instead or {}).items():
            ir.convenience.replace_all_uses_with(values[name], inputs.get(source, values[source]))
        keep_outputs(part, [values[name] for name in dict.fromkeys(wanted)])
        for value in list(part.graph.inputs):
            if not value.uses() and not value.is_graph_output():
                part.graph.inputs.remove(value)
        options = session_options(threads=threads, optimize=False)
        self._session = open_model(part, options) if wanted else None
        self._fed = {_PREFIX + name: name for name in inputs}

    def run(self, feed: Feed, fed: Mapping[str, Array] | None = None, *, index: int = 0) -> dict[str, Array]:
        """Run once.

        Args:
            feed: the graph's own inputs.
            fed: arrays of the values that are fed, by name.
            index: of the feed, for messages.

        Raises:
            CalibrationError: the feed does not fit.
        """
        if self._session is None:
            return {}
        given = {key: fed[name] for key, name in self._fed.items() if fed is not None and name in fed}
        return {
            name: np.asarray(array)
            for name, array in run_feed(self._session, {**feed, **given}, index).items()
        }


def _input_for(model: ir.Model, value: ir.Value) -> ir.Value:
    dtype = value.dtype if value.dtype is not None else ir.DataType.FLOAT
    fed = ir.Value(name=_PREFIX + str(value.name), type=ir.TensorType(dtype))
    ir.convenience.replace_all_uses_with(value, fed)
    model.graph.inputs.append(fed)
    return fed
