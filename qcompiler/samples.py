"""The data of a compile: what statistics are taken from, and what the result is verified on."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.data import Feed, FeedSource, hold_out, input_specs, open_each
from qcompiler.data.kinds import RANDOM as RANDOM_DATA
from qcompiler.data.kinds import refuse_unread
from qcompiler.data.random import invent
from qcompiler.errors import CalibrationError
from qcompiler.request import CompileOptions
from qcompiler.verify.segmented import LARGE_BYTES, weight_bytes

RANDOM = "random"
RANDOM_SAMPLES = 8
"""Random feeds that a result is verified on where no data is given."""


@dataclass(frozen=True)
class Samples:
    """Calibration and verification data.

    Attributes:
        calibration: None where none was given.
        held_out: what the result is verified on; never seen in calibration unless a warning says so.
        held_out_note: where it came from, in words.
        warnings: what is weak about the data.
        invented: whether ``held_out`` is made up, so that the model may refuse it.
    """

    calibration: FeedSource | None
    held_out: FeedSource
    held_out_note: str
    warnings: tuple[str, ...] = ()
    invented: bool = False

    @property
    def batches(self) -> int | None:
        """Number of calibration feeds, where the source knows it without reading."""
        try:
            return len(self.calibration)  # type: ignore[arg-type]
        except TypeError:
            return None


LARGE_FEEDS = 2
"""Feeds that a large model is verified on: each is run through it once for every model compared."""


@dataclass(frozen=True)
class FirstFeeds:
    """The first feeds of a source."""

    whole: FeedSource
    count: int

    def __iter__(self) -> Iterator[Feed]:
        return itertools.islice(self.whole, self.count)

    @property
    def description(self) -> str:
        return f"{self.whole.description}; the first {self.count} feeds, as the model is large"

    @property
    def sha256(self) -> str | None:
        return self.whole.sha256

    @property
    def samples(self) -> int | None:
        return None


def open_samples(model: ir.Model, calibration: object | None, options: CompileOptions) -> Samples:
    """Open the data given and set apart what the result is verified on: a few feeds for a large model.

    Raises:
        CalibrationError: the data cannot be read or does not fit the model.
        OptionError: an option that has no effect on any of the data.
    """
    samples = _opened(model, calibration, options)
    if weight_bytes(model) <= LARGE_BYTES or options.verify == "none":
        return samples
    few = FirstFeeds(samples.held_out, LARGE_FEEDS)
    note = f"{samples.held_out_note}; the first {LARGE_FEEDS} feeds at most, as the model is large"
    return dataclasses.replace(samples, held_out=few, held_out_note=note)


def _opened(model: ir.Model, calibration: object | None, options: CompileOptions) -> Samples:
    specs = input_specs(model)
    sources = [source for source in (calibration, options.verify_data) if source is not None]
    opened = open_each(sources, specs, options.data)
    given = None if calibration is None else opened[0]
    warnings: tuple[str, ...] = ()
    if _is_random(calibration):
        warnings += ("calibrated on random numbers: ranges and accuracy figures are worth little.",)
    if options.verify_data is not None:
        verifying = opened[-1]
        return Samples(given, verifying, verifying.description, warnings)
    if given is not None:
        split = hold_out(given)
        if split.shared:
            warnings += ("too few samples to hold any out: verified on the calibration data itself.",)
        return Samples(split.calibration, split.held_out, split.held_out.description, warnings)
    limit = min(options.data.limit or RANDOM_SAMPLES, RANDOM_SAMPLES)
    invented = invent(specs, dataclasses.replace(options.data, limit=limit))
    refuse_unread(options.data, [RANDOM_DATA.but(name="random data, and no data is given")])
    return Samples(None, invented, "random numbers, for want of data", invented=True)


def require_runnable(model: ir.Model, samples: Samples, verify: str) -> None:
    """Refuse early where the model cannot run on made-up inputs: dimensions may have to fit one another.

    A large model is run in segments, as it will be verified; where nothing will be, nothing is run.

    Raises:
        CalibrationError: it does not run.
    """
    if verify == "none":
        return
    from qcompiler.verify.observed import OracleModel

    session = OracleModel(model, threads=1).session([str(value.name) for value in model.graph.outputs])
    feed = next(iter(samples.held_out))
    try:
        session.run({name: feed[name] for name in session.input_names})
    except Exception as error:  # the runtime's exception types are private and many
        reason = str(error).strip().splitlines()[0][:200]
        raise CalibrationError(
            f"the model does not run on made-up inputs ({reason}); give real ones with --verify-data, "
            "or skip the checks with --verify none."
        ) from error


def _is_random(calibration: object | None) -> bool:
    return isinstance(calibration, str) and calibration == RANDOM
