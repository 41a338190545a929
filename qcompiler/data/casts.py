"""Which casts keep what the data says.

| from | to | condition |
|---|---|---|
| bool | integer, float | none |
| integer | bool, integer | every value lies in the range |
| integer | float | every magnitude is at most 2^p, p bits of precision (2^24 for float32), up to where all are exact |
| float, complex | the same, wider or narrower | finite values stay finite; they are rounded to nearest |
| string | string | none |

Everything else would change values.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from qcompiler.data.feeds import Array

_CASTS = {
    ("bool", "int"),
    ("bool", "float"),
    ("int", "bool"),
    ("int", "int"),
    ("int", "float"),
    ("float", "float"),
    ("complex", "complex"),
    ("string", "string"),
}


class CastRefusedError(ValueError):
    """The cast would change values; ``str(error)`` says how."""


def cast_values(array: Array, dtype: np.dtype[Any]) -> Array:
    """Return ``array`` in ``dtype``, floats rounded to nearest, all other values kept.

    Raises:
        CastRefusedError: a cast or a value that the module's table does not allow.
    """
    seen = family(array.dtype)
    if (seen, family(dtype)) not in _CASTS:
        raise CastRefusedError("such a cast would change values")
    if seen == "int" and array.size:
        _check_integers(array, dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(dtype)
    if seen in ("float", "complex") and not np.all(np.isfinite(cast) | ~np.isfinite(array)):
        raise CastRefusedError("values lie beyond its range")
    return cast


def family(dtype: np.dtype[Any]) -> str:
    """Return bool, int, float, complex, string, or "other ..."."""
    if is_extension(dtype):
        return "int" if "int" in dtype.name else "float"
    kinds = {"b": "bool", "i": "int", "u": "int", "f": "float", "c": "complex", "U": "string", "O": "string"}
    return kinds.get(dtype.kind, f"other {dtype}")


def is_extension(dtype: np.dtype[Any]) -> bool:
    """Whether ``dtype`` is one of ml_dtypes (bfloat16, float8, int4 ...)."""
    return hasattr(ml_dtypes, dtype.name)


def _check_integers(array: Array, dtype: np.dtype[Any]) -> None:
    wide = array.astype(np.int64) if is_extension(array.dtype) else array
    smallest, largest = int(wide.min()), int(wide.max())
    low, high = _exact_range(dtype)
    if smallest < low or largest > high:
        raise CastRefusedError(f"values reach from {smallest} to {largest}, exact are {low} to {high}")


def _exact_range(dtype: np.dtype[Any]) -> tuple[int, int]:
    kind = family(dtype)
    if kind == "bool":
        return 0, 1
    if kind == "int":
        limits = ml_dtypes.iinfo(dtype)  # type: ignore[no-untyped-call]
        return int(limits.min), int(limits.max)
    precision = int(ml_dtypes.finfo(dtype).nmant) + 1  # type: ignore[no-untyped-call]
    bound = int(2**precision)
    return -bound, bound
