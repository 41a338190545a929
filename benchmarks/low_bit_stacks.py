"""Graphs for ``benchmarks.low_bit_matmul``: one product in many forms, or a stack of them with external data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.backends.onnxruntime.low_bit_kernels import KernelNodes, branch, either
from qcompiler.backends.onnxruntime.low_bit_operands import BlockOperands, ColumnOperands
from qcompiler.graph.qdq import add_initializer

SINGLE_FORMS = (
    "float32",
    *(f"4 bits, block {block}" for block in (16, 32, 64, 128, 256)),
    "4 bits, block 32, level 0",
    "4 bits, block 32, float zero points",
    "4 bits, block 32, minima subtracted",
    *(f"8 bits, block {block}" for block in (16, 32, 128)),
    *(f"2 bits, block {block}" for block in (32, 64, 128)),
    "int8 columns, per tensor",
    "int8 columns, per token",
    "If, block 32",
    "If, block 128",
    "MatMulBnb4 nf4",
)
FORMS = ("float32", "4 bits", "If", "If, int8 columns folded at load")
ROWS = 8


class _Builder:
    """Adds products with random weights to a graph."""

    def __init__(self, k: int, *, level: int = 4, per_token: bool = True) -> None:
        self.rng = np.random.default_rng(0)
        self.x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["b", "s", k]))
        imports = {"": 21, "com.microsoft": 1}
        self.graph = ir.Graph([self.x], [], nodes=[], opset_imports=imports, name="low_bit")
        self.kernels = KernelNodes(self.graph, level, per_token)

    def constant(self, name: str, array: npt.NDArray[np.generic]) -> ir.Value:
        return add_initializer(self.graph, name, array)

    def blocks(self, k: int, n: int, bits: int, block: int, *, minimum: bool = False) -> BlockOperands:
        shape = (n, k // block, block * bits // 8)
        data = self.constant("codes", self.rng.integers(0, 256, shape, np.uint8))
        scales = self.constant("scales", np.full(shape[:2], 0.1 / k**0.5, np.float32))
        least = self.constant("minimum", np.ones((k // block, n), np.float32)) if minimum else None
        return BlockOperands(data, scales, None, least, bits, block, k, n, 0)

    def columns(self, k: int, n: int) -> ColumnOperands:
        codes = self.constant("columns", self.rng.integers(-127, 128, (k, n), np.int8))
        return ColumnOperands(codes, self.constant("column_scale", np.full(n, 0.01 / k**0.5, np.float32)), 0)

    def columns_of_one_input(self, k: int, widths: Sequence[int]) -> list[ir.Value]:
        """Products by int8 columns, per token."""
        last = self.kernels.constant("last", np.array([-1]))
        row = self.add("ReduceMax", [self.add("Abs", [self.x]), last], keepdims=1)
        quantize = ir.node("DynamicQuantizeLinear", [self.add("Div", [self.x, row])], num_outputs=3)
        self.put([quantize])
        for part, output in zip(("codes", "scale", "zero_point"), quantize.outputs, strict=True):
            output.name = part
        codes, scale, zero_point = quantize.outputs
        weights = [self.columns(k, n) for n in widths]
        inputs = [[codes, weight.codes, scale, weight.scale, zero_point] for weight in weights]
        units = [self.add("MatMulIntegerToFloat", given, "com.microsoft") for given in inputs]
        return [self.add("Mul", [unit, row]) for unit in units]

    def folded(self, blocks: BlockOperands) -> ColumnOperands:
        """int8 columns that the runtime makes of the 4-bit codes when it folds constants."""
        k, n, name = blocks.rows, blocks.outputs, str(blocks.data.name)
        last = self.kernels.constant("last", np.array([-1]))
        low = self.add("BitwiseAnd", [blocks.data, self.kernels.constant("mask", np.array(15, np.uint8))])
        high = self.add(
            "BitShift", [blocks.data, self.kernels.constant("four", np.array(4, np.uint8))], direction="RIGHT"
        )
        pair = self.add("Concat", [self.add("Unsqueeze", [half, last]) for half in (low, high)], axis=-1)
        codes = self.add(
            "Reshape", [pair, self.kernels.constant(f"by_block_{k}", np.array([n, -1, blocks.block]))]
        )
        level = self.add(
            "Sub", [self.add("Cast", [codes], to=1), self.kernels.constant("middle", np.array(8, np.float32))]
        )
        scale = np.full(n, 0.01 / k**0.5, np.float32)
        ratio = self.add(
            "Div",
            [
                self.add("Unsqueeze", [blocks.scales, last]),
                self.constant(f"{name}_c", scale.reshape(n, 1, 1)),
            ],
        )
        whole = self.add(
            "Cast", [self.add("Round", [self.add("Mul", [level, ratio])])], to=int(ir.DataType.INT8)
        )
        rows = self.add("Reshape", [whole, self.kernels.constant(f"by_row_{k}", np.array([n, k]))])
        return ColumnOperands(
            self.add("Transpose", [rows], perm=[1, 0]), self.constant("column_scale", scale), 0
        )

    def add(
        self, op: str, inputs: list[ir.Value], domain: str = "", **attributes: int | str | list[int]
    ) -> ir.Value:
        node = ir.node(op, inputs, attributes, domain=domain)
        return self.put([node])

    def put(self, nodes: list[ir.Node]) -> ir.Value:
        for node in nodes:
            self.graph.append(node)
            count = self.graph.num_nodes()
            node.outputs[0].name = f"value{count}"
            node.name = node.name or f"node{count}"
        return nodes[-1].outputs[0]

    def either(self, x: ir.Value, blocks: BlockOperands, columns: ColumnOperands) -> ir.Value:
        few = self.put(self.kernels.few_rows(x, ROWS, blocks.rows))
        name = f"{x.name}_product"
        decode = branch(self.kernels.decode(x, blocks, None, f"{name}_decode"), f"{name}_decode")
        prefill = branch(self.kernels.prefill(x, columns, None, f"{name}_prefill"), f"{name}_prefill")
        return self.put([either(few, decode, prefill, name)])

    def model(self, y: ir.Value) -> ir.Model:
        y.type, y.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(["b", "s", None])
        self.graph.outputs.append(y)
        return ir.Model(self.graph, ir_version=10)


def single(form: str, k: int, n: int) -> bytes:
    """One product ``[b, s, k] -> [b, s, n]`` in a form of ``SINGLE_FORMS``, serialized."""
    build = _Builder(k, level=0 if "level 0" in form else 4, per_token="tensor" not in form)
    words = form.replace(",", "").split()
    block = int(words[words.index("block") + 1]) if "block" in words else 0
    if form == "float32":
        weight = np.random.default_rng(0).standard_normal((k, n)).astype(np.float32)
        y = build.add("MatMul", [build.x, build.constant("w", weight)])
    elif form.startswith("If"):
        y = build.either(build.x, build.blocks(k, n, 4, block), build.columns(k, n))
    elif form.startswith("int8"):
        y = build.put(build.kernels.prefill(build.x, build.columns(k, n), None, "product"))
    elif form.startswith("MatMulBnb4"):
        codes = build.constant("codes", np.random.default_rng(0).integers(0, 256, n * k // 2, np.uint8))
        scale = build.constant("scale", np.ones(n * k // 64, np.float32))
        y = build.add(
            "MatMulBnb4", [build.x, codes, scale], "com.microsoft", K=k, N=n, block_size=64, quant_type=1
        )
    else:
        weight_blocks = build.blocks(k, n, int(words[0]), block, minimum="minima" in form)
        nodes = build.kernels.decode(build.x, weight_blocks, None, "product")
        if "float zero points" in form:
            nodes[0].resize_inputs(4)
            nodes[0].replace_input_with(3, build.constant("zeros", np.full((n, k // block), 7.5, np.float32)))
        y = build.put(nodes)
    return bytes(ir.to_proto(build.model(y)).SerializeToString())


def siblings(columns: Sequence[int], k: int, *, few_rows: bool, joined: bool) -> bytes:
    """Products ``[b, s, k]`` by matrices of so many columns each, apart or as one matrix and a Split, serialized.

    For few rows they are MatMulNBits, else int8 columns of an input that is quantized once.
    """
    build = _Builder(k)
    widths = [sum(columns)] if joined else list(columns)
    if few_rows:
        made = [build.put(build.kernels.decode(build.x, build.blocks(k, n, 4, 32), None, "")) for n in widths]
    else:
        made = build.columns_of_one_input(k, widths)
    if joined:
        sizes = build.constant("sizes", np.array(columns))
        split = ir.node("Split", [made[0], sizes], {"axis": -1}, num_outputs=len(columns))
        build.put([split])
        for index, output in enumerate(split.outputs):
            output.name = f"part{index}"
        made = list(split.outputs)
    for y in made[:-1]:
        y.type, y.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(["b", "s", None])
        build.graph.outputs.append(y)
    return bytes(ir.to_proto(build.model(made[-1])).SerializeToString())


def stack(form: str, layers: int, k: int, n: int, path: Path) -> None:
    """``layers`` times k x n and n x k, in a form of ``FORMS``, with external data."""
    build = _Builder(k)
    x = build.x
    for _ in range(layers):
        for rows, columns in ((k, n), (n, k)):
            if form == "float32":
                weight = build.rng.standard_normal((rows, columns)).astype(np.float32) / rows**0.5
                x = build.add("MatMul", [x, build.constant("w", weight)])
                continue
            blocks = build.blocks(rows, columns, 4, 32)
            if form == "4 bits":
                x = build.put(build.kernels.decode(x, blocks, None, ""))
                continue
            int8 = build.folded(blocks) if "folded" in form else build.columns(rows, columns)
            x = build.either(x, blocks, int8)
    ir.save(build.model(x), path, external_data="model.data", size_threshold_bytes=1024)
