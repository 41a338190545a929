"""What passes share that look weights up in codebooks: which nodes they leave, and how values are kept."""

from __future__ import annotations

import numpy as np

from qcompiler.errors import UnsupportedError
from qcompiler.graph.weighted import WeightedNode
from qcompiler.low_bit.readers import PRODUCTS, Selection
from qcompiler.numerics.formats.base import Float32
from qcompiler.numerics.formats.half import LARGEST
from qcompiler.pipeline.base import PassContext

_LEAST_NORMAL = float(np.finfo(np.float16).tiny)


def looked_up_refusal(view: WeightedNode, context: PassContext, *, lm_head: bool) -> str:
    """Why the weight of a node is not looked up in codebooks; "" where it is."""
    if view.node.op_type in PRODUCTS and view.is_tied:
        return "its weight is tied to another node's, and codebooks serve one product: int8 or int4 behind it does both"
    if reason := Selection(embeddings=True, lm_head=lm_head).refusal(view, context):
        return reason
    if view.node.op_type in PRODUCTS:
        return ""
    kind = "a table of rows" if view.node.op_type == "Gather" else "a convolution"
    return f"{kind} has no codebook kernel: int8 or int4 behind it serves it"


def finite_matrix(view: WeightedNode) -> Float32:
    """The weight ``[K, N]``.

    Raises:
        UnsupportedError: it holds NaN or infinity.
    """
    matrix = view.matrix()
    if np.isfinite(matrix.min()) and np.isfinite(matrix.max()):
        return matrix
    raise UnsupportedError(
        f"weight {str(view.weight.name)!r} of {view.node.op_type} {view.name!r}: it holds NaN or infinity, which no "
        f"codebook stands for (--exclude {view.name!r} leaves it in float)"
    )


def half_where_possible(values: Float32) -> Float32:
    """Values rounded to float16, as float32; as they are where the largest is out of its normal range."""
    largest = np.abs(values).max(initial=0.0)
    if not _LEAST_NORMAL < largest <= LARGEST:
        return values
    return values.astype(np.float16).astype(np.float32)
