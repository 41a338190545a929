"""The data of a compile: what statistics are taken from, and what the result is verified on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.data import FeedSource, hold_out, input_specs, open_each
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
    """

    calibration: FeedSource | None
    held_out: FeedSource
    held_out_note: str
    warnings: tuple[str, ...] = ()

    @property
    def batches(self) -> int | None:
        """Number of calibration feeds, where the source knows it without reading."""
        try:
            return len(self.calibration)  # type: ignore[arg-type]
        except TypeError:
            return None


def open_samples(model: ir.Model, calibration: object | None, options: CompileOptions) -> Samples:
    """Open the data given and set apart what the result is verified on.

    Raises:
        CalibrationError: the data cannot be read or does not fit the model.
        OptionError: an option that has no effect on any of the data.
    """
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
    if options.verify != "none":
        _require_runnable(model, invented)
    return Samples(None, invented, "random numbers, for want of data")


def _require_runnable(model: ir.Model, invented: FeedSource) -> None:
    """Refuse early where the model cannot run on made-up inputs: dimensions may have to fit one another.

    A large model is not held in memory for that: verification, which runs it in segments, says so later.
    """
    if weight_bytes(model) > LARGE_BYTES:
        return
    from qcompiler.backends.onnxruntime.session import open_model, session_options

    session = open_model(model, session_options(threads=1, optimize=False))
    feed = next(iter(invented))
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
