"""Running a model so that values inside it can be looked at.

``OracleModel`` runs every node as written, without any optimization. ``OptimizedModel`` is the graph that the runtime
itself made of a deployed file: exposing values of the *file* would keep the runtime from fusing around them, so the
runtime's own optimized graph is saved, outputs are added to that, and it is run as it stands: with the kernels that
the deployed model really runs. Only the two optimizers that change the memory layout are left out, for they rename
what they touch: the same kernels run on channels-first tensors (the outputs are compared with them in place).
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from qcompiler.backends.run_feed import run_feed
from qcompiler.calibration.tapgraph import keep_outputs
from qcompiler.data.feeds import Feed
from qcompiler.package.scratch import scratch_folder
from qcompiler.verify.recorded import Recording
from qcompiler.verify.segmented import SegmentedSession, noted_cuts

if TYPE_CHECKING:
    from qcompiler.backends.onnxruntime.session import OrtSession

_EXTERNAL_BYTES = "1024"
_LAYOUT_OPTIMIZERS = "NhwcTransformer;NchwcTransformer"
_FLOAT_TYPES = ("tensor(float)", "tensor(double)", "tensor(float16)")
_FLOAT_DTYPES = tuple(np.dtype(kind) for kind in ("f4", "f8", "f2"))


def is_float(array: object) -> bool:
    """Whether this is a tensor of floats, and no sequence."""
    return getattr(array, "dtype", None) in _FLOAT_DTYPES


class ObservedModel(abc.ABC):
    """A model of which values of the main graph can be read."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.values: dict[str, ir.Value] = {
            str(output.name): output for node in model.graph for output in node.outputs if output.name
        }

    def session(self, names: Iterable[str]) -> OrtSession | SegmentedSession:
        """Open the model with exactly the values ``names`` as outputs; what they do not need is not run."""
        model = self.model.clone()
        made = {str(output.name): output for node in model.graph for output in node.outputs}
        made |= {
            str(value.name): value for value in (*model.graph.inputs, *model.graph.initializers.values())
        }
        keep_outputs(model, [made[name] for name in dict.fromkeys(names)])
        return self._open(model)

    def float_values(self, names: Sequence[str], feed: Feed) -> set[str]:
        """Those of ``names`` that the runtime says are float tensors; ``feed`` is run where it says so only then."""
        session = self.session(names) if names else None
        if not isinstance(session, SegmentedSession):
            types = session.output_types if session is not None else {}
            return {name for name in names if types[name] in _FLOAT_TYPES}
        found = run_feed(session.outlines(), feed, 0)
        return {name for name in names if is_float(found[name])}

    def element_counts(self, names: Sequence[str], feed: Feed) -> dict[str, int]:
        """How many elements each value has for one feed, found without any of them leaving the runtime."""
        model = self.model.clone()
        made = {str(output.name): output for node in model.graph for output in node.outputs}
        sizes = {}
        for index, name in enumerate(names):
            node = ir.node("Size", [made[name]], name=f"qcompiler_size_{index}")
            node.outputs[0].name, node.outputs[0].type = node.name, ir.TensorType(ir.DataType.INT64)
            model.graph.append(node)
            sizes[name] = node.outputs[0]
        keep_outputs(model, sizes.values())
        found = run_feed(self._open(model), feed, 0)
        return {name: int(found[str(size.name)]) for name, size in sizes.items()}

    @abc.abstractmethod
    def _open(self, model: ir.Model) -> OrtSession | SegmentedSession: ...


class OracleModel(ObservedModel):
    """A model run node by node as it is written; a large one in segments, whose weights alone are in memory.

    What a large one makes of a feed is kept as long as the oracle is.
    """

    def __init__(self, model: ir.Model, *, threads: int) -> None:
        super().__init__(model)
        self._threads = threads
        self._recording = Recording()

    def element_counts(self, names: Sequence[str], feed: Feed) -> dict[str, int]:
        if not noted_cuts(self.model):
            return super().element_counts(names, feed)
        session = self.session(names)
        assert isinstance(session, SegmentedSession)
        found = run_feed(session.outlines(), feed, 0)
        return {name: int(found[name].size) for name in names}

    def _open(self, model: ir.Model) -> OrtSession | SegmentedSession:
        from qcompiler.backends.onnxruntime.session import open_model, session_options

        cuts = noted_cuts(model)
        if cuts:
            names = [str(value.name) for value in model.graph.outputs]
            recording = self._recording
            return SegmentedSession(self.model, names, cuts, threads=self._threads, recording=recording)
        return open_model(model, session_options(threads=self._threads, optimize=False))


class OptimizedModel(ObservedModel):
    """The graph that ONNX Runtime made of a deployed file. Use it in a ``with``: it owns a temporary folder."""

    def __init__(self, path: Path, *, threads: int) -> None:
        # Beside the model: its weights are written again, and the system's own place may be in memory.
        self._threads = threads
        with contextlib.ExitStack() as stack:
            self._folder = stack.enter_context(scratch_folder(path.parent))
            super().__init__(_optimized(path, self._folder))
            self._stack = stack.pop_all()

    def __enter__(self) -> OptimizedModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _open(self, model: ir.Model) -> OrtSession:
        from qcompiler.backends.onnxruntime.session import open_file, session_options

        path = self._folder / "observed.onnx"  # beside the weights, which it refers to
        ir.save(model, path)
        return open_file(path, session_options(threads=self._threads, optimize=False, prepack=True))


def _optimized(path: Path, folder: Path) -> ir.Model:
    from qcompiler.backends.onnxruntime.session import open_file, session_options

    target = folder / "optimized.onnx"
    options = session_options(threads=1, keep_int8=True)
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_file_name", "weights.data"
    )
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_min_size_in_bytes", _EXTERNAL_BYTES
    )
    options.add_session_config_entry("optimization.disable_specified_optimizers", _LAYOUT_OPTIMIZERS)
    # MatMulNBits that the runtime makes of DequantizeLinear itself would round activations, as no target asks for.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "0")
    options.add_session_config_entry("session.disable_prepacking", "1")  # packed weights are not in the graph
    open_file(path, options)
    return ir.load(target)
