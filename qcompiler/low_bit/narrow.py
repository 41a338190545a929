"""Weights of int8 kernels that the file holds in 3 to 6 bits: which of them, by which solver, in which words.

Codes are found here, for the format of :mod:`qcompiler.numerics.formats.progressive`; they wait beside their int8 form
(:mod:`qcompiler.graph.narrow_codes`) until the target writes them.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.backends.base import Target
from qcompiler.calibration.requests import Gram, Window
from qcompiler.calibration.statistics import Statistics
from qcompiler.errors import OptionError, UnsupportedError
from qcompiler.graph.narrow_codes import LEAST_OPSET, narrow_codes
from qcompiler.graph.storage import Coded
from qcompiler.graph.weighted import WeightedNode
from qcompiler.low_bit.readers import PRODUCTS
from qcompiler.low_bit.solver import Inputs, Settings, Solver, recalled, solve_weight
from qcompiler.numerics.formats.base import Float32, Grid, Search
from qcompiler.numerics.formats.half import half_above
from qcompiler.numerics.formats.progressive import CHANNEL, RATIO, Progressive
from qcompiler.numerics.gptq import Solution
from qcompiler.pipeline.base import PassContext

USUAL_GROUP = 32
LEAST_ROWS = 16
"""Weights of an output channel from which on fewer bits are worth it: a depthwise channel of 9 has few of a network's
weights and a large part of its sensitivity (4 bits there cost MobileNetV1 0.9 dB and save 1 %)."""

NODE_BYTES = 1200
"""What the nodes that widen one weight take in the file, about: 700 bytes for int4, 1200 for the others."""

PLACES = 1024
"""So many places of a picture are enough to look at, about: the windows of all take k * k times its memory."""

WEIGHTS_HELP = "bits of weights in the file; below 8 they become int8 when the model is loaded"
GROUP_HELP = (
    "for weights of fewer bits: about so many share a zero point and a ratio, 16 to 256; 0 for per channel"
)
SOLVER_HELP = "for weights of fewer bits: how codes are chosen"


class StoredWeights(enum.StrEnum):
    """How a file holds the weights of int8 kernels."""

    INT8 = "int8"
    INT6 = "int6"
    INT5 = "int5"
    INT4 = "int4"
    INT3 = "int3"

    @property
    def bits(self) -> int:
        return int(self.value.removeprefix("int"))


class CodeSolver(enum.StrEnum):
    """How narrow codes are chosen."""

    RTN = "rtn"
    MSE = "mse"
    GPTQ = "gptq"


@dataclass(frozen=True)
class NarrowWeights:
    """What a user asked for.

    Attributes:
        bits: of a code.
        group: weights of a group, about; 0 for all of a channel.
        solver: what finds the codes.
    """

    bits: int
    group: int
    solver: CodeSolver

    @property
    def from_inputs(self) -> bool:
        """Whether the solver looks at what weights are multiplied by."""
        return self.solver is CodeSolver.GPTQ

    @property
    def least_opset(self) -> int:
        """Of the nodes that widen the codes."""
        return LEAST_OPSET

    def format_of(self, view: WeightedNode, largest_code: int = 127) -> Progressive:
        """The format of one weight: its groups are of one size, as near to ``group`` as that can be."""
        rows, _ = _shape(view)
        groups = max(1, round(rows / self.group)) if self.group else 1
        return Progressive(self.bits, -(-rows // groups), largest_code)

    def refusal(self, view: WeightedNode) -> str:
        """Why a weight stays in 8 bits in the file; "" where it does not."""
        if view.node.op_type not in ("Conv", *PRODUCTS):
            return f"no narrow form of the weight of {view.node.op_type}"
        shape = _shape(view)
        if shape[0] < LEAST_ROWS:
            return f"{shape[0]} weights a channel are too few to make good each other's rounding"
        saved = 8 + 32 / shape[0] - self.format_of(view).bits_per_weight(*shape)
        if saved * math.prod(shape) < 8 * NODE_BYTES:
            return f"its {math.prod(shape)} weights are too few for int{self.bits} to save bytes"
        return ""

    def request(self, view: WeightedNode, context: PassContext) -> Gram | None:
        """The statistic that the solver needs of what a weight multiplies; None where there is none to be had."""
        if not self.from_inputs or self.refusal(view):
            return None
        if {view.node.graph, view.activation.graph} != {context.model.graph}:
            return None
        if view.node.op_type in PRODUCTS:
            return Gram(str(view.activation.name))
        window = _window(view)
        if window is None:
            return None
        moves = {*window.kernel_shape, *window.strides} != {1} or any(window.pads)
        return Gram(str(view.activation.name), axis=1, window=window if moves else None)

    def coded(
        self,
        view: WeightedNode,
        context: PassContext,
        statistics: Statistics,
        least_scale: Float32 | None = None,
    ) -> Coded:
        """int8 codes and scale of a weight, and its narrow codes.

        Raises:
            UnsupportedError: the weight or its inputs are not finite, or too large for the format's scales.
        """
        stored = self.format_of(view, context.target.weight.largest_code)
        matrix = view.matrix()
        request = self.request(view, context)

        def make() -> Solution:
            if not np.isfinite(matrix).all():
                raise UnsupportedError("it holds NaN or infinity, which no code stands for")
            gram = None if request is None else statistics.gram(request)[0].astype(np.float32, copy=False)
            return solve_weight(matrix, stored, self._settings, Inputs(gram=gram))

        try:
            key = f"{view.weight.name}/{view.output_axis}/{stored.name}/{stored.group}/{self.solver}"
            found = raised(recalled(context.journal.recall, key, make), matrix, stored, least_scale)
        except UnsupportedError as error:
            raise UnsupportedError(
                f"weight {str(view.weight.name)!r} of {view.node.op_type} {view.name!r}: {error} "
                f"(--exclude {view.name!r} leaves it in float)"
            ) from error
        shape = view.weight_shape
        first = (shape[view.output_axis], *np.delete(shape, view.output_axis))
        wide = stored.wide_codes(found.codes, found.grid).T.reshape(first)
        return Coded(
            np.ascontiguousarray(np.moveaxis(wide, 0, view.output_axis)),
            np.asarray(found.grid.parts[CHANNEL], np.float32)[0],
            narrow_codes(view, stored, found.codes, found.grid),
            stored.bits_per_weight(*matrix.shape) if context.target.widens_codes else 8 + 32 / len(matrix),
        )

    def words(self, view: WeightedNode, context: PassContext) -> str:
        """``int8 from int4 g32, gptq: 4.29 bits``."""
        if reason := self.refusal(view):
            return f"int8 weight ({reason})"
        stored = self.format_of(view)
        rows, columns = _shape(view)
        grouped = "per channel" if stored.group == rows else f"g{stored.group}"
        solver = str(self.solver)
        if self.from_inputs and self.request(view, context) is None:
            solver = f"mse in the place of {solver}, as what it reads is not observed"
        if not context.target.widens_codes:
            return f"int8 weight on the levels of {stored.name} {grouped}, {solver}; in 8 bits in this target's files"
        return (
            f"int8 from {stored.name} {grouped}, {solver}: {stored.bits_per_weight(rows, columns):.2f} bits"
        )

    @property
    def _settings(self) -> Settings:
        search = Search.MINMAX if self.solver is CodeSolver.RTN else Search.MSE
        return Settings(Solver(str(self.solver)), search)


def narrow_weights(
    weights: StoredWeights,
    group: int | None,
    solver: CodeSolver | None,
    usual: CodeSolver,
    *,
    per_channel: bool,
) -> NarrowWeights | None:
    """What the options of a pass ask for; None for weights in 8 bits.

    Raises:
        ValueError: options that contradict each other.
    """
    if weights is StoredWeights.INT8:
        given = [name for name, value in (("group", group), ("solver", solver)) if value is not None]
        if given:
            raise ValueError(
                f"option {given[0]!r} is for weights of fewer bits; add weights=int4 or leave it out."
            )
        return None
    if not per_channel:
        raise ValueError(f"weights={weights} have one scale per output channel; leave out per_channel=false.")
    if group and not 16 <= group <= 256:
        raise ValueError(f"option 'group' is {group}, expected 16 to 256, or 0 for per channel.")
    return NarrowWeights(weights.bits, USUAL_GROUP if group is None else group, solver or usual)


def refuse_unfit(narrow: NarrowWeights | None, target: Target, owner: str) -> None:
    """Refuse bits that do not fit the target's codes.

    Raises:
        OptionError: says how many do.
    """
    if narrow is not None and (1 << narrow.bits) - 1 > target.weight.largest_code:
        raise OptionError(
            f"pass {owner}: {narrow.bits} bits for codes of at most {target.weight.largest_code}; use weights=int5."
        )


def raised(solution: Solution, matrix: Float32, stored: Progressive, least: Float32 | None) -> Solution:
    """``solution`` with no column's scale below ``least [N]``, at which its bias fits the accumulator."""
    grid = solution.grid
    channel = np.asarray(grid.parts[CHANNEL], np.float32)
    if least is None or not (channel[0] < least).any():
        return solution
    short = np.flatnonzero(channel[0] < least)
    # The bias is 2**30 steps or more: beside it, nothing that these weights could add is seen.
    scale, middle = (
        half_above(np.broadcast_to(least, channel[0].shape)[short]),
        np.uint8(1 << (stored.bits - 1)),
    )
    channel, ratio, zero = channel.copy(), np.array(grid.parts[RATIO], np.uint8), _zero_point(grid).copy()
    channel[0, short], ratio[:, short], zero[:, short] = scale, 1, middle
    codes = solution.codes.copy()
    codes[:, short] = stored.codes_of(matrix[:, short], scale, scale * middle)
    steps = (channel * ratio).astype(np.float32)
    return Solution(codes, Grid(steps, steps * zero, zero, {RATIO: ratio, CHANNEL: channel}))


def _zero_point(grid: Grid) -> npt.NDArray[np.uint8]:
    if grid.zero_point is None:
        raise AssertionError("a progressive grid has zero points")
    return grid.zero_point


def _shape(view: WeightedNode) -> tuple[int, int]:
    """Of the weight as ``[K, N]``."""
    shape = view.weight_shape
    return math.prod(shape) // shape[view.output_axis], shape[view.output_axis]


def _window(view: WeightedNode) -> Window | None:
    """What a convolution reads at each place; None where groups of channels read different windows."""
    node, shape = view.node, view.weight_shape
    if view.group != 1 or view.activation.shape is None:
        return None
    padding = node.attributes.get("auto_pad")
    if padding is not None and padding.as_string() not in ("NOTSET", "VALID"):
        return None
    rank = len(shape) - 2

    def numbers(name: str, default: int, count: int) -> tuple[int, ...]:
        attribute = node.attributes.get(name)
        return (default,) * count if attribute is None else tuple(map(int, attribute.as_ints()))

    places = [axis if isinstance(axis, int) else 1 for axis in view.activation.shape[2:]]
    skip = max(1, math.isqrt(math.prod(places) // PLACES))  # neighbouring windows say nearly the same
    strides = tuple(skip * stride for stride in numbers("strides", 1, rank))
    pads, dilations = numbers("pads", 0, 2 * rank), numbers("dilations", 1, rank)
    return Window(shape[1], tuple(shape[2:]), strides, pads, dilations)
