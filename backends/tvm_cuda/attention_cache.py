"""Rotary positions, and a cache of keys and values that grows, as definitions."""

from __future__ import annotations

from typing import Any

from qcompiler.backends.tvm.importing.scope import Expr, Scope, expression


def turned(scope: Scope, part: Expr, places: Expr, tables: list[Expr], interleaved: bool) -> Expr:
    """``[B, S, heads, size]`` turned by the rows ``places [B, S]`` of cosines and sines ``[L, R / 2]``."""
    from tvm import te, tirx

    def turn(part: Any, places: Any, cosines: Any, sines: Any) -> Any:
        half, longest, zero = int(cosines.shape[1]), cosines.shape[0], tirx.const(0, "int64")
        whole = 2 * half == int(part.shape[3])

        def value(b: Any, s: Any, h: Any, d: Any) -> Any:
            place = tirx.max(tirx.min(places[b, s], longest - 1), zero)
            is_first = d % 2 == 0 if interleaved else d < half
            step = 1 if interleaved else half
            other = tirx.if_then_else(is_first, d + step, d - step)
            index = d // 2 if interleaved else d % half
            if not whole:
                inside = d < 2 * half
                other, index = tirx.if_then_else(inside, other, zero), tirx.if_then_else(inside, index, zero)
            one = tirx.const(1.0, "float32")
            sign = tirx.Select(is_first, tirx.const(-1.0, "float32"), one)
            here = part[b, s, h, d]
            found = here * cosines[place, index] + sign * part[b, s, h, other] * sines[place, index]
            return found if whole else tirx.Select(d < 2 * half, found, here)

        return te.compute(part.shape, value, name="turn")

    return scope.builder.emit_te(turn, part, places, *tables)


def places_from(scope: Scope, first: Expr, batch: Any, rows: Any) -> Expr:
    """int64 ``[B, S]``: positions from ``first`` on."""
    from tvm import te, tirx

    def counted(first: Any, batch: Any, rows: Any) -> Any:
        return te.compute((batch, rows), lambda b, s: tirx.Cast("int64", first[b]) + s, name="places")

    return scope.builder.emit_te(counted, first, expression(batch), expression(rows))


def appended(scope: Scope, past: Expr, new: Expr, first: Expr, keys: Any, scale: Expr | None) -> Expr:
    """``[B, heads, T, size]``: the past of each row of the batch, and its new keys behind it; codes of ``scale``."""
    from tvm import te, tirx

    def code(value: Any, step: Any) -> Any:
        found = tirx.nearbyint(value / step)
        return tirx.Cast(
            "int8", tirx.max(tirx.min(found, tirx.const(127.0, "float32")), tirx.const(-128.0, "float32"))
        )

    def joined(past: Any, new: Any, first: Any, length: Any, *scales: Any) -> Any:
        batch, heads, before, size = past.shape

        def value(b: Any, h: Any, t: Any, d: Any) -> Any:
            start = tirx.Cast("int64", first[b])
            row = tirx.max(tirx.min(t - start, new.shape[1] - 1), tirx.const(0, "int64"))
            fresh = new[b, row, h, d]
            fresh = code(fresh, scales[0][h, d]) if scales else fresh
            return tirx.if_then_else(tirx.all(t < start, t < before), past[b, h, t, d], fresh)

        return te.compute((batch, heads, length, size), value, name="present")

    extra = [] if scale is None else [scale]
    return scope.builder.emit_te(joined, past, new, first, expression(keys), *extra)
