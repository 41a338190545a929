"""A decoder of Llama's shape with random weights, drawn while it is written: never more than one tensor in memory.

Root mean square norms, grouped-query attention with rotary positions and a cache, a SwiGLU network, and an output
matrix of its own, in the operators that exporters for ONNX Runtime give (GroupQueryAttention and the fused norms).

Weights are normal with deviation 1/sqrt(K); a few input channels of each are ``OUTLIER`` times as large, as trained
models have them.  The same seed gives the same file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

Float32 = npt.NDArray[np.float32]

MICROSOFT = "com.microsoft"
OUTLIER = 8.0
OUTLIER_EVERY = 256
"""One channel in so many is an outlier."""
EPSILON = 1e-5
ROTARY_BASE = 10000.0
EMBEDDING_DEVIATION = 0.02


@dataclass(frozen=True)
class Shape:
    """Sizes of the model; heads share key and value heads in groups."""

    layers: int = 22
    hidden: int = 2048
    inner: int = 5632
    heads: int = 32
    kv_heads: int = 4
    vocabulary: int = 32000
    context: int = 2048

    @property
    def head_size(self) -> int:
        return self.hidden // self.heads

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_size

    def products(self) -> Iterator[tuple[str, int, int]]:
        """Name, K and N of every matrix of one layer."""
        yield "attn.q_proj", self.hidden, self.hidden
        yield "attn.k_proj", self.hidden, self.kv_width
        yield "attn.v_proj", self.hidden, self.kv_width
        yield "attn.o_proj", self.hidden, self.hidden
        yield "mlp.gate_proj", self.hidden, self.inner
        yield "mlp.up_proj", self.hidden, self.inner
        yield "mlp.down_proj", self.inner, self.hidden

    @property
    def parameters(self) -> int:
        """Elements of all matrices and tables."""
        layer = sum(rows * columns for _, rows, columns in self.products())
        return self.layers * layer + 2 * self.vocabulary * self.hidden


def random_matrix(rows: int, columns: int, seed: Sequence[int], deviation: float) -> Float32:
    """``[rows, columns]``, some rows ``OUTLIER`` times as large."""
    generator = np.random.default_rng(seed)
    matrix = generator.standard_normal((rows, columns), dtype=np.float32)
    matrix *= np.float32(deviation)
    matrix[generator.choice(rows, max(1, rows // OUTLIER_EVERY), replace=False)] *= np.float32(OUTLIER)
    return matrix


def rotary_tables(shape: Shape) -> tuple[Float32, Float32]:
    """Cosines and sines, each ``[context, head_size / 2]`` (arXiv:2104.09864)."""
    frequencies = ROTARY_BASE ** (-np.arange(0, shape.head_size, 2) / shape.head_size)
    angles = np.arange(shape.context)[:, None] * frequencies[None]
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


class _Builder:
    """Adds nodes, and weights that are drawn when they are written."""

    def __init__(self, shape: Shape, seed: int) -> None:
        self.shape, self.seed = shape, seed
        self.nodes: list[ir.Node] = []
        self.initializers: list[ir.Value] = []

    def drawn(self, name: str, rows: int, columns: int, deviation: float) -> ir.Value:
        key = (self.seed, len(self.initializers))

        def draw() -> ir.TensorProtocol:
            return ir.tensor(random_matrix(rows, columns, key, deviation), name=name)

        return self._initializer(ir.LazyTensor(draw, ir.DataType.FLOAT, ir.Shape((rows, columns)), name=name))

    def constant(self, name: str, array: npt.NDArray[np.generic]) -> ir.Value:
        return self._initializer(ir.tensor(array, name=name))

    def _initializer(self, tensor: ir.TensorProtocol) -> ir.Value:
        kind = ir.TensorType(tensor.dtype)
        value = ir.Value(
            name=tensor.name, shape=ir.Shape(tensor.shape.numpy()), type=kind, const_value=tensor
        )
        self.initializers.append(value)
        return value

    def op(
        self, kind: str, inputs: Sequence[ir.Value | None], name: str, *, domain: str = "", outputs: int = 1,
        **attributes: float | int | str,
    ) -> ir.Value:  # fmt: skip
        """Add a node and return its first output."""
        node = ir.node(kind, inputs, attributes, domain=domain, num_outputs=outputs, name=name)
        for index, output in enumerate(node.outputs):
            output.name = f"{name}/output_{index}"
        self.nodes.append(node)
        return node.outputs[0]

    def product(self, value: ir.Value, name: str, rows: int, columns: int) -> ir.Value:
        weight = self.drawn(f"{name}.weight", rows, columns, rows**-0.5)
        return self.op("MatMul", [value, weight], f"{name}/MatMul")

    def gain(self, name: str) -> ir.Value:
        return self.constant(f"{name}.weight", np.ones(self.shape.hidden, np.float32))

    def add_and_norm(self, stream: ir.Value, added: ir.Value, name: str) -> tuple[ir.Value, ir.Value]:
        """The residual stream after ``added``, and its norm."""
        fused = "SkipSimplifiedLayerNormalization"
        inputs = [added, stream, self.gain(name)]
        normed = self.op(fused, inputs, f"{name}/{fused}", domain=MICROSOFT, outputs=4, epsilon=EPSILON)
        node = self.nodes[-1]
        node.outputs[1].name = node.outputs[2].name = ""
        return node.outputs[3], normed


def build(shape: Shape, seed: int = 0) -> ir.Model:
    """The model; its weights are drawn anew whenever they are read.

    Inputs: ``input_ids [B, T]``, ``attention_mask [B, P + T]`` int64, ``past_key_values.{i}.key`` and ``.value``
    ``[B, kv_heads, P, head_size]`` float32. Outputs: ``logits [B, T, V]``, ``present.{i}.key`` and ``.value``.
    """
    make = _Builder(shape, seed)
    ids = _value("input_ids", ir.DataType.INT64, ["batch", "tokens"])
    mask = _value("attention_mask", ir.DataType.INT64, ["batch", "total"])
    table = make.drawn("model.embed_tokens.weight", shape.vocabulary, shape.hidden, EMBEDDING_DEVIATION)
    stream = make.op("Gather", [table, ids], "/model/embed_tokens/Gather")
    positions = [*_lengths(make, mask), *map(make.constant, ("cos_cache", "sin_cache"), rotary_tables(shape))]
    norm, gain = "/model/layers.0/input_layernorm", make.gain("model.layers.0.input_layernorm")
    kind = "SimplifiedLayerNormalization"
    normed = make.op(kind, [stream, gain], f"{norm}/{kind}", axis=-1, stash_type=1, epsilon=EPSILON)
    cache_in, cache_out = [], []
    for layer in range(shape.layers):
        past = [_cache(shape, f"past_key_values.{layer}.{part}", "past") for part in ("key", "value")]
        name = f"model.layers.{layer}"
        attended, present = _attention(make, f"{name}.attn", normed, past, positions)
        for value, part in zip(present, ("key", "value"), strict=True):
            _describe(value, f"present.{layer}.{part}", _cache_shape(shape, "total"))
        cache_in += past
        cache_out += present
        stream, normed = make.add_and_norm(stream, attended, f"{name}.post_attention_layernorm")
        last = layer == shape.layers - 1
        following = "model.norm" if last else f"model.layers.{layer + 1}.input_layernorm"
        stream, normed = make.add_and_norm(stream, _network(make, f"{name}.mlp", normed), following)
    logits = make.product(normed, "lm_head", shape.hidden, shape.vocabulary)
    _describe(logits, "logits", ["batch", "tokens", shape.vocabulary])
    graph = ir.Graph(
        [ids, mask, *cache_in], [logits, *cache_out], nodes=make.nodes, initializers=make.initializers,
        opset_imports={"": 21, MICROSOFT: 1}, name="llama_shape",
    )  # fmt: skip
    return ir.Model(graph, ir_version=10, producer_name="benchmarks.llama_graph")


def _lengths(make: _Builder, mask: ir.Value) -> list[ir.Value]:
    """What GroupQueryAttention wants to know of the mask: last position of each sequence, and positions in all."""
    to_int32 = int(ir.DataType.INT32)
    axis, one = make.constant("axis_1", np.array([1])), make.constant("one", np.array([1]))
    seen = make.op("ReduceSum", [mask, axis], "/mask/ReduceSum", keepdims=0)
    last = make.op("Cast", [make.op("Sub", [seen, one], "/mask/Sub")], "/mask/last/Cast", to=to_int32)
    size = make.op("Shape", [mask], "/mask/Shape")
    total = make.op("Gather", [size, make.constant("index_1", np.array(1))], "/mask/Gather", axis=0)
    return [last, make.op("Cast", [total], "/mask/total/Cast", to=to_int32)]


def _attention(
    make: _Builder, name: str, normed: ir.Value, past: Sequence[ir.Value], positions: Sequence[ir.Value]
) -> tuple[ir.Value, list[ir.Value]]:
    shape, kind = make.shape, "GroupQueryAttention"
    widths = {"q_proj": shape.hidden, "k_proj": shape.kv_width, "v_proj": shape.kv_width}
    projected = [
        make.product(normed, f"{name}.{part}", shape.hidden, width) for part, width in widths.items()
    ]
    attended = make.op(
        kind, [*projected, *past, *positions], f"{name}/{kind}", domain=MICROSOFT, outputs=3,
        num_heads=shape.heads, kv_num_heads=shape.kv_heads, do_rotary=1, rotary_interleaved=0,
    )  # fmt: skip
    present = list(make.nodes[-1].outputs[1:])
    return make.product(attended, f"{name}.o_proj", shape.hidden, shape.hidden), present


def _network(make: _Builder, name: str, normed: ir.Value) -> ir.Value:
    """``(silu(x Wg) * (x Wu)) Wd`` (arXiv:2002.05202)."""
    hidden, inner = make.shape.hidden, make.shape.inner
    gate = make.product(normed, f"{name}.gate_proj", hidden, inner)
    up = make.product(normed, f"{name}.up_proj", hidden, inner)
    sigmoid = make.op("Sigmoid", [gate], f"{name}/act/Sigmoid")
    silu = make.op("Mul", [gate, sigmoid], f"{name}/act/Mul")
    product = make.op("Mul", [silu, up], f"{name}/Mul")
    return make.product(product, f"{name}.down_proj", inner, hidden)


def _cache(shape: Shape, name: str, length: str) -> ir.Value:
    return _value(name, ir.DataType.FLOAT, _cache_shape(shape, length))


def _cache_shape(shape: Shape, length: str) -> list[str | int]:
    return ["batch", shape.kv_heads, length, shape.head_size]


def _value(name: str, dtype: ir.DataType, dims: Sequence[str | int]) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(dims), type=ir.TensorType(dtype))


def _describe(value: ir.Value, name: str, dims: Sequence[str | int]) -> None:
    value.name, value.shape, value.type = name, ir.Shape(dims), ir.TensorType(ir.DataType.FLOAT)


def write(shape: Shape, path: Path, seed: int = 0) -> Path:
    """Write the model to ``path`` and its weights, one after another, to ``path`` + ".data"."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ir.save(build(shape, seed), path, external_data=f"{path.name}.data", size_threshold_bytes=1024)
    return path
