"""ONNX Runtime sessions, from a file as it is deployed or from a model in memory.

A model in memory is not serialized with its weights: each large initializer is handed to the runtime as the
array (or the memory map) that it already is, so that opening a model costs no second copy of its weights.
"""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime

from qcompiler.backends.base import Array, Session
from qcompiler.errors import ModelError
from qcompiler.graph.cache_codes import decoded, encoded, read_scales
from qcompiler.measure.sessions import timing_options

INLINE_BYTES = 1024
"""Smaller initializers are serialized: shape inference and folding inside the runtime need to see them."""

_PLACEHOLDER = "in-memory"

_ONNXRUNTIME_NUMPY = frozenset(
    {np.dtype(kind) for kind in ("f4", "f8", "f2", "i1", "i2", "i4", "i8", "u1", "u2")}
)


class OrtSession(Session):
    """One ONNX Runtime session on the CPU provider.

    A cache of keys and values in codes is taken and given as the float numbers that the codes stand for, so that it
    can be compared.
    """

    def __init__(self, session: onnxruntime.InferenceSession, kept_alive: Sequence[object] = ()) -> None:
        self._session = session
        self._kept_alive = kept_alive
        self.input_names = [value.name for value in session.get_inputs()]
        self.output_names = [value.name for value in session.get_outputs()]
        self.output_types: dict[str, str] = {value.name: value.type for value in session.get_outputs()}
        """As the runtime names them: ``tensor(float)``."""
        self._cache_scales = read_scales(session.get_modelmeta().custom_metadata_map)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        outputs = self._session.run(None, encoded(feeds, self._cache_scales))
        return decoded(dict(zip(self.output_names, outputs, strict=True)), self._cache_scales)


def session_options(
    *, threads: int, optimize: bool = True, keep_int8: bool = False, prepack: bool | None = None
) -> onnxruntime.SessionOptions:
    """Options for measuring and checking: those of timing, and how much of the graph the runtime may change.

    Args:
        threads: intra-op threads.
        optimize: False runs every node as written, which is what an oracle is for.
        keep_int8: leave int8 activations as they are, as the runtime does on arm64. Elsewhere it turns them into
            uint8, and a model compiled for arm64 would be judged by kernels that it will not have.
        prepack: whether kernels lay their weights out anew, as ``optimize`` says by default. Without it
            MatMulNBits computes in float: what is to run as deployed must have it.
    """
    options = timing_options(threads=threads)
    level = onnxruntime.GraphOptimizationLevel
    if keep_int8:
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    if not (
        optimize if prepack is None else prepack
    ):  # an oracle runs a few times: copies would double its memory
        options.add_session_config_entry("session.disable_prepacking", "1")
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    return options


def open_file(path: Path, options: onnxruntime.SessionOptions) -> OrtSession:
    """Open a model file, external data and all.

    Raises:
        ModelError: the runtime refuses it; the message is the runtime's first line.
    """
    with _runtime_errors(str(path)):
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return OrtSession(session)


def open_model(model: ir.Model, options: onnxruntime.SessionOptions) -> OrtSession:
    """Open a model in memory; ``model`` is unchanged afterwards.

    A model that is run as written reads its weights where they lie, so that of a mapped file only those pages are
    resident that a node reads. Optimizations read weights before there is a session, and are given copies.

    Raises:
        ModelError: the runtime refuses it.
    """
    large = [value for value in model.graph.initializers.values() if _is_large(value)]
    arrays = [np.ascontiguousarray(_tensor(value).numpy()) for value in large]
    with _placeholders(large):
        content = ir.to_proto(model).SerializeToString()
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in arrays]
    names = [str(value.name) for value in large]
    as_written = options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with _runtime_errors("the model"), warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        if as_written:
            (
                Path(folder) / _PLACEHOLDER
            ).touch()  # the runtime wants the file to exist, and reads nothing of it
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
            for name, value in zip(names, values, strict=True):
                options.add_initializer(name, value)
        elif large:
            options.add_external_initializers(names, values)
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return OrtSession(session, [arrays, values])


def _is_large(value: ir.Value) -> bool:
    tensor = value.const_value
    used = value.uses() or value.is_graph_output()  # the runtime drops unused ones before it looks for them
    return (
        bool(used)
        and tensor is not None
        and tensor.nbytes > INLINE_BYTES
        and tensor.dtype.numpy() in _ONNXRUNTIME_NUMPY
    )


def _tensor(value: ir.Value) -> ir.TensorProtocol:
    if value.const_value is None:
        raise AssertionError(f"{value.name} holds no constant")
    return value.const_value


@contextlib.contextmanager
def _placeholders(values: Sequence[ir.Value]) -> Iterator[None]:
    """Replace constants by references to a file that is never read, and put them back."""
    kept = [_tensor(value) for value in values]
    try:
        for value, tensor in zip(values, kept, strict=True):
            value.const_value = ir.ExternalTensor(
                _PLACEHOLDER,
                0,
                tensor.nbytes,
                tensor.dtype,
                shape=_fixed_shape(tensor),
                name=str(value.name),
            )
        yield
    finally:
        for value, tensor in zip(values, kept, strict=True):
            value.const_value = tensor


@contextlib.contextmanager
def _runtime_errors(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the runtime's exception types are private and many
        reason = str(error).strip().splitlines()[0][:300]
        raise ModelError(f"ONNX Runtime cannot open {what}: {reason}") from error


def _fixed_shape(tensor: ir.TensorProtocol) -> ir.Shape:
    return ir.Shape(list(tensor.numpy().shape))
