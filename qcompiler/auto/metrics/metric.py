"""What the user judges a model by: how it is measured, which way is better, and what a drop is.

| name | measured | better | a drop is |
|---|---|---|---|
| top1 | share of right classes; without labels, of those that the float model gives | larger | the difference |
| perplexity | per token that counts | smaller | the relative rise, ``p / p_float - 1`` |
| spearman | rank correlation of the cosines of pairs of embeddings with their scores | larger | the difference |
| kl | mean KL divergence of the outputs from the float model's, nats | smaller | the value |
| relative_error | ``sqrt(sum (a - b)^2 / sum a^2)`` of the outputs against the float model's | smaller | the value |
| module:function | the user's, see ``user`` | larger, unless it says otherwise | the difference |

What data holds beside the inputs: ``data``.  Which outputs are looked at: ``losses.yardstick``.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from qcompiler.auto.losses.yardstick import Kind, Yardstick
from qcompiler.auto.metrics.data import LABELS, SCORES, MetricData, open_metric_data
from qcompiler.auto.metrics.user import UserFunction, call, load_function
from qcompiler.backends.base import Session
from qcompiler.data.feeds import FeedSource
from qcompiler.data.options import DataOptions
from qcompiler.errors import OptionError, UnsupportedError, suggest

IDS, LOGITS = "input_ids", "logits"


class Metric(abc.ABC):
    """One way of judging a deployed model.

    Attributes:
        name: as the user writes it.
        words: what is measured, for reports.
        surrogate: the loss that is measured node by node in its place; None: by the model's outputs.
        scatters: whether of two models of like loss the value of a few samples says less about which is better than the
            surrogate does: it depends on single answers, right or wrong by chance.
    """

    name: str
    words: str
    surrogate: ClassVar[Kind | None] = None
    scatters: ClassVar[bool] = False

    @abc.abstractmethod
    def measure(self, session: Session) -> float:
        """The value of a model.

        Raises:
            QCompilerError: the data or the user's function does not fit the model.
        """

    @abc.abstractmethod
    def loss(self, value: float, float_value: float) -> float:
        """The drop of ``value`` from the float model's: 0 is as good, above it is worse, below it is better."""

    def surrogate_of(self, drop: float) -> float:
        """The surrogate's loss at which such a drop is expected; the same number where nothing better is known."""
        return drop


def absolute_drop(value: float, float_value: float, *, higher_is_better: bool) -> float:
    """By how much ``value`` is worse."""
    return float_value - value if higher_is_better else value - float_value


def relative_drop(value: float, float_value: float, *, higher_is_better: bool) -> float:
    """By which share of the float model's value ``value`` is worse.

    Raises:
        UnsupportedError: the float model's value is 0 or no number, so that nothing can be a share of it.
    """
    if not math.isfinite(float_value) or float_value == 0:
        raise UnsupportedError(
            f"the float model's value is {float_value}, and a drop is a share of it; give other data, or a metric "
            "whose drop is a difference."
        )
    return absolute_drop(value, float_value, higher_is_better=higher_is_better) / abs(float_value)


@dataclass
class Divergence(Metric):
    """KL or relative error of the outputs against the float model's."""

    yardstick: Yardstick
    name: str

    @property
    def words(self) -> str:  # type: ignore[override]
        return "KL divergence from float, nats" if self.name == "kl" else "relative error of the outputs"

    def measure(self, session: Session) -> float:
        loss = self.yardstick.loss(session)
        return loss if self.name == "kl" else math.sqrt(loss)

    def loss(self, value: float, float_value: float) -> float:
        del float_value
        return value

    def surrogate_of(self, drop: float) -> float:
        return drop if self.name == "kl" else drop**2


@dataclass
class UserMetric(Metric):
    """A function of the user's."""

    data: MetricData
    function: UserFunction
    name: str

    @property
    def words(self) -> str:  # type: ignore[override]
        return self.name

    def measure(self, session: Session) -> float:
        return call(self.function, self.name, session, self.data)

    def loss(self, value: float, float_value: float) -> float:
        drop = relative_drop if getattr(self.function, "relative", False) else absolute_drop
        return drop(value, float_value, higher_is_better=getattr(self.function, "higher_is_better", True))


NAMES = ("top1", "perplexity", "spearman", "kl", "relative_error")


def named_function(name: str | None) -> UserFunction | None:
    """The user's function that ``--metric`` names; None where it names a metric of :data:`NAMES`, or nothing.

    Raises:
        OptionError: there is no such metric, or the function cannot be had.
    """
    if name is None or name in NAMES:
        return None
    if ":" not in name:
        raise OptionError(
            f"there is no metric {name!r}.{suggest(name, NAMES)} Your own is named module:function."
        )
    return load_function(name)


def open_metric(
    name: str | None,
    reference: ir.Model,
    feeds: FeedSource,
    data: object | None = None,
    options: DataOptions | None = None,
    function: UserFunction | None = None,
) -> Metric:
    """Make the metric that ``--metric`` names, and check that model and data are of its kind.

    Args:
        name: one of :data:`NAMES`, ``module:function``, ``file.py:function``; None: chosen by model and data: top1 for
            logits, probabilities and labels, perplexity for language models, spearman for scores, else relative_error.
        reference: the prepared float model.
        feeds: what was held out of calibration.
        data: of ``--metric-data``, in the place of ``feeds``.
        options: how calibration data is read; what applies to ``data`` is followed there too.
        function: what ``name`` names, where it was loaded before.

    Raises:
        OptionError: there is no such metric.
        CalibrationError: the data lacks what it needs.
        UnsupportedError: the model has no such output.
    """
    function = function or named_function(name)
    opened = open_metric_data(reference, data, feeds, options)
    if function is not None:
        return UserMetric(opened, function, str(name))
    chosen = name or chosen_name(reference, opened)
    if chosen == "top1":
        from qcompiler.auto.metrics.top1 import open_top1

        return open_top1(reference, opened)
    if chosen == "perplexity":
        from qcompiler.auto.metrics.perplexity import open_perplexity

        return open_perplexity(reference, opened)
    if chosen == "spearman":
        from qcompiler.auto.metrics.spearman import open_spearman

        return open_spearman(reference, opened)
    return Divergence(
        Yardstick.of(reference, opened, kind="kl" if chosen == "kl" else "relative_error"), chosen
    )


def chosen_name(reference: ir.Model, data: MetricData) -> str:
    """The metric that fits a model and its data."""
    if data.first(LABELS) is not None:
        return "top1"
    if data.first(SCORES) is not None:
        return "spearman"
    if is_language_model(reference):
        return "perplexity"
    if all(value.dtype is not None and value.dtype.is_integer() for value in reference.graph.outputs):
        return "top1"
    return "top1" if Yardstick.of(reference, data).kind == "kl" else "relative_error"


def is_language_model(model: ir.Model) -> bool:
    """Whether it gives logits ``[B, T, V]`` for each of its ``input_ids``."""
    outputs = {str(value.name): value for value in model.graph.outputs}
    logits = outputs.get(LOGITS)
    rank = len(logits.shape) if logits is not None and logits.shape is not None else None
    return rank == 3 and any(value.name == IDS for value in model.graph.inputs)
