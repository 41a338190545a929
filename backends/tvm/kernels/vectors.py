"""Words of the generators: a program's frame, vectors in registers, and parts of vectors in memory.

A vector has 16 lanes of 32 bits, whatever the CPU: LLVM splits it where registers are shorter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm.script.ir_builder import IRBuilder
from tvm.tirx import const
from tvm.tirx.script.builder import ir

T: Any = ir
"""TVM's statements and expressions."""

LANES = 16
"""Floats or int32 in a vector, and channels in a block of packed weights."""

Expr = Any
Buffer = Any
PrimFunc = Any


def build(name: str, body: Callable[[], None]) -> PrimFunc:
    """The PrimFunc whose parameters and statements ``body`` makes; no two of its buffers share memory."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(name)
        T.func_attr({"tirx.noalias": True})
        body()
    return builder.get()


def parameter(name: str, shape: Sequence[Expr], dtype: str) -> Buffer:
    """The next parameter, a buffer."""
    return T.arg(name, T.buffer(tuple(shape), dtype, buffer_name=name))


def rows_parameter() -> Expr:
    """A dimension known only when the kernel is called."""
    return T.int32()


def load(buffer: Buffer, indices: Sequence[Expr], lanes: int = LANES) -> Expr:
    """``lanes`` neighbours along the last axis."""
    return buffer.vload(list(indices), f"{buffer.dtype}x{lanes}" if lanes > 1 else str(buffer.dtype))


def store(buffer: Buffer, indices: Sequence[Expr], value: Expr, lanes: int = LANES) -> None:
    """Write ``lanes`` neighbours along the last axis."""
    last = T.ramp(indices[-1], 1, lanes) if lanes > 1 else indices[-1]
    T.buffer_store(buffer, value, [*indices[:-1], last])


def load_part(buffer: Buffer, indices: Sequence[Expr], valid: int, fill: float = 0.0) -> Expr:
    """A vector whose first ``valid`` lanes are read and whose others are ``fill``."""
    if valid == LANES:
        return let(load(buffer, indices))
    part = T.alloc_buffer((LANES,), str(buffer.dtype))
    store(part, [0], splat(const(fill, str(buffer.dtype))))
    for first, count in _pieces(valid):
        store(part, [first], load(buffer, [*indices[:-1], indices[-1] + first], count), count)
    return let(load(part, [0]))


def store_part(buffer: Buffer, indices: Sequence[Expr], value: Expr, valid: int) -> None:
    """Write the first ``valid`` lanes."""
    if valid == LANES:
        store(buffer, indices, value)
        return
    whole = let(value)
    for first, count in _pieces(valid):
        store(buffer, [*indices[:-1], indices[-1] + first], part(whole, first, count), count)


def _pieces(valid: int) -> list[tuple[int, int]]:
    """``(first, count)`` of powers of two that add up to ``valid``, the largest first."""
    found, first = [], 0
    for count in (8, 4, 2, 1):
        if valid & count:
            found.append((first, count))
            first += count
    return found


def splat(value: Expr, lanes: int = LANES) -> Expr:
    """The same value in every lane."""
    return T.broadcast(value, lanes)


def let(value: Expr) -> Expr:
    """Compute once what is used more than once."""
    return T.Bind(value)


def opaque(value: Expr) -> Expr:
    """An int32 that bounds of loops are made of, hidden from TVM's analysis of ranges.

    That analysis ends in an error where it takes a sum to be able to reach 2^31.
    """
    hidden = T.alloc_buffer((1,), "int32")
    T.buffer_store(hidden, value, [0])
    return let(hidden[0])


def cast(value: Expr, dtype: str, lanes: int = LANES) -> Expr:
    """Convert every lane."""
    return T.cast(value, f"{dtype}x{lanes}" if lanes > 1 else dtype)


def part(vector: Expr, first: int, count: int, step: int = 1) -> Expr:
    """Lanes ``first, first + step, ...`` of a vector."""
    return T.Shuffle([vector], list(range(first, first + count * step, step)))


def joined(parts: list[Expr], lanes: int) -> Expr:
    """Vectors of equal length, one behind another."""
    return T.Shuffle(parts, list(range(lanes)))


def intrinsic(name: str, dtype: str, *operands: Expr) -> Expr:
    """A call of one of LLVM's, which only some CPUs have."""
    return T.call_llvm_pure_intrin(dtype, T.llvm_lookup_intrinsic_id(name), *operands)


def prefetch(buffer: Buffer, indices: Sequence[Expr], *, soon: bool = True) -> None:
    """Ask for the cache line of an element, which may lie behind the end: nothing is read, and nothing can fail.

    Args:
        soon: into all caches, not only into the second and those behind it.
    """
    read, caches, data = T.int32(0), T.int32(3 if soon else 2), T.int32(1)
    address = T.address_of(buffer[tuple(indices)])
    T.evaluate(T.call_llvm_intrin("void", "llvm.prefetch", address, read, caches, data))


def round_to_int(value: Expr, lanes: int = LANES) -> Expr:
    """int32 nearest to floats that lie within -2^22 and 2^22, ties to even, without a library call.

    1.5 * 2^23 added to a float leaves the integer in its low bits.
    """
    dtype = "int32" if lanes == 1 else f"int32x{lanes}"
    shifter, bits = T.float32(1.5 * 2.0**23), T.int32(0x4B400000)
    if lanes == 1:
        return T.reinterpret(dtype, value + shifter) - bits
    return T.reinterpret(dtype, value + splat(shifter, lanes)) - splat(bits, lanes)


class Register:
    """A vector that is assigned more than once.

    It has no scope: TVM puts a small buffer on the stack, from where LLVM takes it into a register, but allocates one
    of the scope "local" from the runtime, at every turn of the loop it stands in.
    """

    def __init__(self, dtype: str, lanes: int = LANES) -> None:
        self._buffer = T.alloc_buffer((lanes,), dtype)
        self._lanes = lanes

    @property
    def value(self) -> Expr:
        return load(self._buffer, [0], self._lanes)

    def set(self, value: Expr) -> None:
        store(self._buffer, [0], value, self._lanes)

    def clear(self, zero: Expr) -> None:
        """Set every lane to a scalar."""
        self.set(splat(zero, self._lanes))


def across(value: Expr, combine: Callable[[Expr, Expr], Expr], lanes: int = LANES) -> Expr:
    """One scalar of all lanes."""
    while lanes > 1:
        lanes //= 2
        whole = let(value)
        value = combine(
            T.Shuffle([whole], list(range(lanes))), T.Shuffle([whole], list(range(lanes, 2 * lanes)))
        )
    return let(value)
