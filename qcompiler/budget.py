"""How much memory a compile takes, told before it begins, and refused where it is more than was asked for.

The figures are estimates from what was measured (``python -m benchmarks.llama_shape memory``); nothing enforces them.
Activations count for the length of a sample that calibration data usually has, and not for longer ones.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir

from qcompiler.calibration.grams import GRAM_BYTES, gram_budget
from qcompiler.errors import OptionError, UnsupportedError
from qcompiler.graph.weighted import weighted_nodes
from qcompiler.pipeline.base import Pass
from qcompiler.sequential.cuts import segments
from qcompiler.verify.needs import verification_bytes
from qcompiler.verify.segmented import weight_bytes

_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_SIZE = re.compile(r"(\d+(?:\.\d+)?(?:e\+?\d{1,2})?)\s*([KMGT]?)(I?B)?", re.IGNORECASE)

_BASE_BYTES = 250_000_000
"""Interpreter, runtime, graph."""
_LARGEST = 2.5
"""Multiples of the largest weight, whose codes and packed forms are made at one time."""
_RUN = 2.2
"""Multiples of the weights that calibration runs: as they lie in the file, and as the runtime holds them."""
_SOLVED_GRAM = 36
"""Bytes for each element of the largest Gram matrix: one in float32, and four in float64 while it is factored."""
_SOLVED_WEIGHT = 16
"""Bytes for each element of the weight being solved: itself, its target, values and errors in float32."""
_GRAM_SHARE = 8
_LEAST_GRAM_BYTES = 64 << 20


def parse_size(text: str, owner: str = "--max-ram") -> int:
    """Bytes of ``"4G"``, ``"500 MB"``, ``"1.5GiB"``: K, M, G and KB, MB, GB count thousands, KiB, MiB, GiB 1024,
    and a number alone (30000000, 3e7) bytes.

    Raises:
        OptionError: another form, or nothing.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None or not float(found[1]):
        raise OptionError(f"{owner} is {text!r}, expected a number and a unit: 4G, 500MB or 1.5GiB.")
    unit = 1024 if (found[3] or "").upper() == "IB" else 1000
    return int(float(found[1]) * unit ** _UNITS[found[2].upper()])


def stage_bytes(model: ir.Model, passes: Sequence[Pass], verify: str, limit: int) -> dict[str, int]:
    """About the most that each stage holds, in bytes, by its name."""
    found = {"passes and lowering": _BASE_BYTES + int(_LARGEST * _largest(model))}
    if any(item.asks_for_data for item in passes):
        found["calibration"] = _calibration_bytes(model, passes, limit)
    if any(item.asks_for_data and item.sequential for item in passes):
        found["solving"] = _solving_bytes(model)
    if verify != "none":
        found["verification"] = verification_bytes(model, verify)
    return found


def refuse_over_budget(model: ir.Model, passes: Sequence[Pass], verify: str, limit: int | None) -> None:
    """Refuse a compile whose estimate is over ``limit`` bytes.

    Raises:
        UnsupportedError: says which stage, and what would fit.
    """
    if limit is None:
        return
    stages = stage_bytes(model, passes, verify, limit)
    worst = max(stages, key=lambda name: stages[name])
    if stages[worst] <= limit:
        return
    raise UnsupportedError(
        f"--max-ram is {_shown(limit)}, and {worst} needs about {_shown(stages[worst])}; "
        f"{_remedy(model, stages, worst, verify, limit)}."
    )


@contextlib.contextmanager
def within(limit: int | None) -> Iterator[None]:
    """Let statistics take a share of ``limit``: less means more runs over the data, and the same result."""
    share = GRAM_BYTES if limit is None else max(_LEAST_GRAM_BYTES, min(GRAM_BYTES, limit // _GRAM_SHARE))
    with gram_budget(share):
        yield


def _calibration_bytes(model: ir.Model, passes: Sequence[Pass], limit: int) -> int:
    """A segment where passes go segment by segment, and the whole model where they do not."""
    total = weight_bytes(model)
    by_segment = all(item.sequential for item in passes if item.asks_for_data)
    held = total // max(len(segments(model)), 1) if by_segment else total
    statistics = min(GRAM_BYTES, max(_LEAST_GRAM_BYTES, limit // _GRAM_SHARE)) if by_segment else 0
    return _BASE_BYTES + int(_RUN * max(held, _largest(model))) + 2 * statistics


def _solving_bytes(model: ir.Model) -> int:
    """The weight for which codes are found from the products of its inputs: K x K of them for a weight [K, N]."""
    matrices = [view for view in weighted_nodes(model) if view.node.op_type in ("MatMul", "Gemm")]
    shapes = [(view.weight_shape[view.input_axis or 0], math.prod(view.weight_shape)) for view in matrices]
    needed = (_SOLVED_GRAM * rows**2 + _SOLVED_WEIGHT * elements for rows, elements in shapes)
    return _BASE_BYTES + max(needed, default=0)


def _largest(model: ir.Model) -> int:
    values = [value for graph in model.graphs() for value in graph.initializers.values()]
    return max((value.const_value.nbytes for value in values if value.const_value is not None), default=0)


def _shown(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f} MB"


def _remedy(model: ir.Model, stages: Mapping[str, int], worst: str, verify: str, limit: int) -> str:
    rest = max(size for name, size in stages.items() if name != "verification")
    if worst != "verification":
        return f"give at least --max-ram {stages[worst] / 1e9 + 0.05:.1f}G"
    lower = verification_bytes(model, "numerics")
    if rest > limit:
        return f"give at least --max-ram {stages[worst] / 1e9 + 0.05:.1f}G"
    return f"--verify {'numerics' if verify == 'speed' and lower <= limit else 'none'} fits"
