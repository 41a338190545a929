"""What converters see: tensors by the values of the graph, and small integer contents known while importing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.tune import Effort, tuned
from qcompiler.errors import UnsupportedError
from qcompiler.graph.weighted import array_of, is_constant

Expr = Any
Dim = Any
"""int, or an expression of symbolic dimensions."""

Content = npt.NDArray[np.object_]
"""Integers that a tensor holds, as far as they are known: int or expressions of symbolic dimensions."""

INLINE_ELEMENTS = 16
"""Constants of so many elements are part of the code; larger ones are parameters."""

CONTENT_ELEMENTS = 64
"""Larger integer constants are never shapes or axes."""


@dataclass
class Scope:
    """A Relax function that grows.

    Attributes:
        builder: ``relax.BlockBuilder`` within a dataflow block.
        variant: which kernels it may use.
        products: which of them for products that have tiles.
        symbols: symbolic dimensions by name.
        exprs: tensors by value.
        contents: integers by value, where known.
        parameters: names and initializers in the order of the function's last arguments.
        functions: generated kernels by their description.
        limits: the largest that symbolic dimensions may be, by name.
        sums: symbolic dimensions that are the sum of two others: ``(total, first, second)``.
        tune: how many tiles of each kernel are timed.
        in_place: caches have room for new keys and values, which are written into them.
    """

    builder: Any
    variant: Variant
    products: Variant
    symbols: dict[str, Any] = field(default_factory=dict)
    exprs: dict[ir.Value, Expr] = field(default_factory=dict)
    contents: dict[ir.Value, Content] = field(default_factory=dict)
    parameters: dict[str, tuple[Any, ir.TensorProtocol]] = field(default_factory=dict)
    functions: dict[object, Any] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    sums: set[tuple[str, str, str]] = field(default_factory=set)
    tune: Effort = Effort.NONE
    in_place: bool = False

    def emit(self, expr: Expr) -> Expr:
        """Bind an expression to a variable whose type is inferred."""
        return self.builder.emit(expr)

    def tensor(self, value: ir.Value) -> Expr:
        """The tensor of a value: made before, a constant, or integers that are known only as shapes."""
        if value not in self.exprs:
            if is_constant(value):
                self.exprs[value] = self._constant(value)
            elif value in self.contents:
                self.exprs[value] = self.from_content(self.contents[value], value.dtype or ir.DataType.INT64)
            else:
                raise UnsupportedError(
                    f"{value.name!r} is made by no node before it; the graph is not sorted."
                )
        return self.exprs[value]

    def inputs(self, node: ir.Node) -> list[Expr]:
        """Tensors of all inputs; those left out are None."""
        return [None if value is None else self.tensor(value) for value in node.inputs]

    def content(self, value: ir.Value | None) -> Content | None:
        """Known integers, None where they depend on data."""
        if value is None:
            return None
        if value not in self.contents and is_constant(value):
            array = array_of(value)
            if array.size > CONTENT_ELEMENTS or array.dtype.kind not in "iub":
                return None
            self.contents[value] = np.array(array.tolist(), dtype=object).reshape(array.shape)
        return self.contents.get(value)

    def integers(self, node: ir.Node, index: int) -> list[Dim]:
        """Known integers that an input must hold.

        Raises:
            UnsupportedError: they depend on data.
        """
        found = self.content(node.inputs[index] if index < len(node.inputs) else None)
        if found is None:
            raise UnsupportedError(f"input {index} depends on data, expected a constant or a shape")
        return list(found.reshape(-1))

    def shape(self, expr: Expr) -> list[Dim]:
        """Dimensions of a tensor.

        Raises:
            UnsupportedError: they depend on data.
        """
        shape = expr.ty.shape
        if shape is None or not hasattr(shape, "values"):
            raise UnsupportedError("a shape depends on data")
        return [plain(size) for size in shape.values]

    def limit(self, size: Dim, largest: int) -> None:
        """Note that a symbolic dimension must not be larger when the model runs."""
        for name, symbol in self.symbols.items():
            if same(size, symbol):
                self.limits[name] = min(largest, self.limits.get(name, largest))

    def add_up(self, total: Dim, first: Dim, second: Dim) -> None:
        """Note that a symbolic dimension must be the sum of two others when the model runs.

        Raises:
            UnsupportedError: they are no symbols of inputs, so that nothing could check it.
        """
        names = [
            next((name for name, symbol in self.symbols.items() if same(size, symbol)), None)
            for size in (total, first, second)
        ]
        if None not in names:
            self.sums.add((str(names[0]), str(names[1]), str(names[2])))
        elif not same(total, first + second):
            raise UnsupportedError(f"its length {total} is not known to be {first} + {second}")

    def is_negative(self, size: Dim) -> bool:
        """Whether an expression of dimensions, none of which is 0, is below 0."""
        from tvm import sym
        from tvm.ir import Range

        analyzer = sym.Analyzer()
        for symbol in self.symbols.values():
            analyzer.bind(symbol, Range(1, 1 << 30))
        return bool(analyzer.can_prove(size < 0))

    def full(self, shape: Sequence[Dim], fill: float | bool, dtype: str) -> Expr:
        from tvm import relax

        return self.emit(relax.op.full(relax.ShapeExpr(list(shape)), relax.const(fill, dtype), dtype))

    def dtype(self, expr: Expr) -> str:
        return str(expr.ty.dtype)

    def call(self, key: object, make: Any, inputs: Sequence[Expr], shape: Sequence[Dim], dtype: str) -> Expr:
        """Call a kernel, generated once for each key.

        Args:
            key: description of the kernel; its type names the function.
            make: gives the PrimFunc by its name.
            inputs: all its parameters but the last.
            shape: of its result.
            dtype: of its result.
        """
        from tvm import relax

        result = relax.TensorType(tuple(shape), dtype)
        return self.emit(relax.call_tir(self.function(key, make), list(inputs), result))

    def call_several(
        self,
        key: object,
        make: Any,
        inputs: Sequence[Expr],
        results: Sequence[tuple[Sequence[Dim], str]],
        in_place: Sequence[int] = (),
    ) -> list[Expr]:
        """Call a kernel with several results, each of a shape and a type; the last are inputs at these places."""
        from tvm import relax

        types = [relax.TensorType(tuple(shape), dtype) for shape, dtype in results]
        function = self.function(key, make)
        if in_place:
            places = [-1] * (len(results) - len(in_place)) + list(in_place)
            made = self.emit(relax.op.call_tir_inplace(function, list(inputs), places, types))
        else:
            made = self.emit(relax.call_tir(function, list(inputs), types))
        return [self.emit(relax.TupleGetItem(made, index)) for index in range(len(types))]

    def function(self, key: object, make: Any) -> Any:
        """A kernel of the module, generated once for each key."""
        if key not in self.functions:
            name = f"{type(key).__name__.lower()}_{len(self.functions)}"
            chosen = tuned(key, self.tune)
            kernel = (make if chosen == key else partial(make.func, chosen))(name).with_attr(
                {"qcompiler.kernel": True, "op_pattern": 8}
            )
            self.functions[key] = self.builder.add_func(kernel, name)
        return self.functions[key]

    def _constant(self, value: ir.Value) -> Expr:
        from tvm import relax

        tensor = value.const_value
        assert tensor is not None
        if tensor.size <= INLINE_ELEMENTS:
            array = array_of(value)
            return relax.const(array, str(array.dtype))
        kind = tensor.dtype.numpy().name
        if kind not in STORED:
            raise UnsupportedError(
                f"constant {value.name!r} is {tensor.dtype.name}, which no operator reads here"
            )
        name = str(value.name)
        if name not in self.parameters:
            shape = tuple(int(str(size)) for size in tensor.shape)
            self.parameters[name] = (
                relax.Var(f"p{len(self.parameters)}", relax.TensorType(shape, kind)),
                tensor,
            )
        return self.parameters[name][0]

    def from_content(self, content: Content, dtype: ir.DataType) -> Expr:
        """A tensor of known integers."""
        from tvm import relax, te, tirx

        kind = dtype.numpy().name
        if all(isinstance(item, int) for item in content.reshape(-1)):
            return relax.const(np.array(content.tolist(), kind), kind)
        places = [expression(item) for item in content.reshape(-1)]

        def tensor(given: Any) -> Any:
            items = [tirx.Cast(kind, item) for item in given]
            return te.compute(content.shape, lambda *indices: select(items, *indices), name="content")

        def select(items: list[Any], *indices: Any) -> Any:
            if not indices:
                return items[0]
            flat = sum(int(np.prod(content.shape[axis + 1 :])) * index for axis, index in enumerate(indices))
            found = items[-1]
            for place in range(len(items) - 2, -1, -1):
                found = tirx.if_then_else(flat == place, items[place], found)
            return found

        return self.builder.emit_te(tensor, places)


STORED = frozenset(
    {
        "float32",
        "float64",
        "float16",
        "int64",
        "int32",
        "int16",
        "int8",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "bool",
    }
)


def plain(size: Dim) -> Dim:
    """An int for a constant expression."""
    from tvm import tirx

    return int(size.value) if isinstance(size, tirx.IntImm) else size


def expression(size: Dim) -> Any:
    """An int64 expression for an int."""
    from tvm import tirx

    return tirx.IntImm("int64", size) if isinstance(size, int) else size


def same(left: Dim, right: Dim) -> bool:
    """Whether two dimensions are always equal, as far as can be proven."""
    if isinstance(left, int) and isinstance(right, int):
        return left == right
    from tvm.sym import Analyzer

    return bool(Analyzer().can_prove_equal(left, right))


def simplified(size: Dim) -> Dim:
    """A dimension in its shortest form."""
    if isinstance(size, int):
        return size
    from tvm.sym import Analyzer

    return plain(Analyzer().simplify(size))
