"""Functions of float vectors without library calls: what follows a product, and what softmax and attention need."""

from __future__ import annotations

import enum

from qcompiler.backends.tvm.kernels.vectors import LANES, Expr, T, cast, let, round_to_int, splat

_SHIFTER = 1.5 * 2.0**23
"""Added to a float it leaves the nearest integer in the low bits."""


class Function(enum.StrEnum):
    """Applied to every value of a result."""

    NONE = "none"
    RELU = "relu"
    SIGMOID = "sigmoid"
    SILU = "silu"
    TANH = "tanh"
    GELU = "gelu"
    GELU_TANH = "gelu_tanh"
    ERF = "erf"
    HARD_SIGMOID = "hard_sigmoid"
    HARD_SWISH = "hard_swish"


def apply(function: Function, value: Expr) -> Expr:
    """``function`` of float32 x 16."""
    x = let(value)
    match function:
        case Function.NONE:
            return x
        case Function.RELU:
            return T.max(x, _all(0.0))
        case Function.SIGMOID:
            return sigmoid(x)
        case Function.SILU:
            return x * sigmoid(x)
        case Function.TANH:
            return tanh(x)
        case Function.GELU:
            return _all(0.5) * x * (_all(1.0) + erf(x * _all(0.7071067811865476)))
        case Function.GELU_TANH:
            inner = _all(0.7978845608028654) * (x + _all(0.044715) * x * x * x)
            return _all(0.5) * x * (_all(1.0) + tanh(inner))
        case Function.ERF:
            return erf(x)
        case Function.HARD_SIGMOID:
            return hard_sigmoid(x)
        case Function.HARD_SWISH:
            return x * hard_sigmoid(x)


def exp(value: Expr) -> Expr:
    """e^x to 2 units in the last place; 0 below -87.7, that of 88.3 above.

    2^n * e^r with |r| <= ln(2) / 2: the polynomial of Cephes' ``expf``.  With n = -127 the power is 0.
    """
    return exp_below_zero(let(T.min(value, _all(88.3))))


def exp_below_zero(value: Expr) -> Expr:
    """The same for values up to 88.3."""
    x = let(T.max(value, _all(-88.0)))
    power = let(round_to_int(x * _all(1.4426950408889634)))
    n = let(cast(power, "float32"))
    r = let((x - n * _all(0.693359375)) - n * _all(-2.12194440e-4))
    p = _all(1.9875691500e-4)
    for coefficient in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        p = let(p * r + _all(coefficient))
    two_n = T.reinterpret(f"float32x{LANES}", T.shift_left(power + splat(T.int32(127)), splat(T.int32(23))))
    return let((p * r * r + r + _all(1.0)) * two_n)


def power_of_two(value: Expr) -> Expr:
    """2^x for x up to 127, to 2 units in the last place; 0 for -127 and below.

    2^n * 2^f with |f| <= 1/2: a polynomial through 1 with the least relative error (9e-8), and n added to the exponent
    by an addition of integers, without a conversion.
    """
    x = let(T.max(value, _all(-127.0)))
    bits = let(T.reinterpret(f"int32x{LANES}", x + _all(_SHIFTER)))  # as such TVM would cancel what is added
    f = let(x - (T.reinterpret(f"float32x{LANES}", bits) - _all(_SHIFTER)))
    p = _all(0.001326472614891827)
    for coefficient in (
        0.009671512991189957,
        0.05550733581185341,
        0.24022242426872253,
        0.6931470036506653,
        1.0,
    ):
        p = let(p * f + _all(coefficient))
    exponent = T.shift_left(bits, splat(T.int32(23)))
    return let(T.reinterpret(f"float32x{LANES}", T.reinterpret(f"int32x{LANES}", p) + exponent))


def sigmoid(value: Expr) -> Expr:
    """1 / (1 + e^-x)."""
    return let(_all(1.0) / (_all(1.0) + exp(_all(0.0) - value)))


def hard_sigmoid(value: Expr) -> Expr:
    """``min(max(x / 6 + 1/2, 0), 1)``: the slope of HardSwish of ONNX (its HardSigmoid has another default)."""
    return let(T.min(T.max(value * _all(1.0 / 6.0) + _all(0.5), _all(0.0)), _all(1.0)))


def tanh(value: Expr) -> Expr:
    """1 - 2 / (1 + e^2x): within 1e-7 of the true value, absolutely."""
    return let(_all(1.0) - _all(2.0) / (_all(1.0) + exp(_all(2.0) * value)))


def erf(value: Expr) -> Expr:
    """Within 3e-7, absolutely: Abramowitz and Stegun, 7.1.26."""
    x = let(value)
    size = let(T.max(x, _all(0.0) - x))
    t = let(_all(1.0) / (_all(1.0) + _all(0.3275911) * size))
    p = _all(1.061405429)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        p = let(p * t + _all(coefficient))
    positive = let(_all(1.0) - p * t * exp(_all(0.0) - size * size))
    return let(T.Select(x < _all(0.0), _all(0.0) - positive, positive))


def _all(value: float) -> Expr:
    return splat(T.float32(value))
