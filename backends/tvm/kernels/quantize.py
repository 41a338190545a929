"""Float vectors to uint8 codes inside a kernel, as QuantizeLinear and DynamicQuantizeLinear of ONNX define it."""

from __future__ import annotations

from dataclasses import dataclass

from qcompiler.backends.tvm.kernels.row_loop import each_row
from qcompiler.backends.tvm.kernels.vectors import (
    LANES,
    Buffer,
    Expr,
    Register,
    T,
    across,
    cast,
    let,
    load_part,
    round_to_int,
    splat,
    store,
)


def to_uint8(value: Expr, scale: Expr, zero_point: Expr) -> Expr:
    """uint8 x 16: ``saturate(round(value / scale) + zero_point)``.

    Args:
        value: float32 x 16.
        scale: float32 scalar.
        zero_point: int32 scalar.
    """
    zero = let(cast(zero_point, "float32", 1))
    low, high = splat(-zero), splat(T.float32(255.0) - zero)
    clipped = T.min(T.max(value / splat(scale), low), high)
    return cast(round_to_int(clipped) + splat(zero_point), "uint8")


@dataclass(frozen=True)
class RowCodes:
    """A float matrix and where its codes go.

    Attributes:
        source: float32 ``[M, K]``.
        codes: uint8 ``[M, S]``; S is K rounded up to a multiple of 16.
        scale: float32 ``[M]`` or ``[1]``.
        zero_point: int32, as ``scale``.
    """

    source: Buffer
    codes: Buffer
    scale: Buffer
    zero_point: Buffer
    columns: int

    def range_of_rows(self, rows: Expr, *, each: bool) -> None:
        """Set scale and zero point from the values: for each row, or one of all rows."""
        low, high = Register("float32"), Register("float32")
        if not each:
            self._reset(low, high)
        with T.serial(0, rows) as row:
            if each:
                self._reset(low, high)
            for first, vectors, valid in spans(self.columns):
                with T.serial(0, vectors) as index:
                    value = load_part(self.source, [row, first + index * LANES], valid)
                    low.set(T.min(low.value, value))
                    high.set(T.max(high.value, value))
            if each:
                self._set(row, low, high)
        if not each:
            self._set(0, low, high)

    def quantize(self, rows: Expr, *, each: bool) -> None:
        """Write the codes."""

        def codes_of(row: Expr) -> None:
            place = row if each else 0
            for first, vectors, valid in spans(self.columns):
                with T.serial(0, vectors) as index:
                    column = first + index * LANES
                    value = load_part(self.source, [row, column], valid)
                    codes = to_uint8(value, self.scale[place], self.zero_point[place])
                    store(self.codes, [row, column], codes)

        each_row(rows, self.columns, codes_of)

    def _reset(self, low: Register, high: Register) -> None:
        low.set(splat(T.float32(0.0)))
        high.set(splat(T.float32(0.0)))

    def _set(self, place: Expr, low: Register, high: Register) -> None:
        """The range includes 0, so that 0 has a code; a range of nothing has scale 1."""
        least, most = across(low.value, T.min), across(high.value, T.max)
        span = let((most - least) / T.float32(255.0))
        scale = let(T.Select(span > T.float32(0.0), span, T.float32(1.0)))
        T.buffer_store(self.scale, scale, [place])
        zero = T.min(T.max(-least / scale, T.float32(0.0)), T.float32(255.0))
        T.buffer_store(self.zero_point, round_to_int(zero, 1), [place])


def spans(columns: int) -> list[tuple[int, int, int]]:
    """``(first column, vectors, valid lanes)`` of the whole vectors of a row and of what is left."""
    whole, rest = divmod(columns, LANES)
    found = [(0, whole, LANES)] if whole else []
    return [*found, (whole * LANES, 1, rest)] if rest else found
