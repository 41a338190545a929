"""ONNX Runtime's own quantizers, called as their documentation says."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from qcompiler.data.feeds import Feed, input_specs
from qcompiler.data.open import open_data
from qcompiler.data.options import DataOptions
from qcompiler.load import load_model

Peer = Callable[[Path, Path, Path | None], None]
"""Reads a float model and a .npz of calibration samples, and writes a quantized model."""


class Samples(CalibrationDataReader):  # type: ignore[misc]
    """The calibration samples, one a feed, read from disk as they are asked for."""

    def __init__(self, model: Path, calibration: Path) -> None:
        specs = input_specs(load_model(model))
        self._feeds: Iterator[Feed] = iter(open_data(calibration, specs, DataOptions()))

    def get_next(self) -> dict[str, npt.NDArray[np.generic]] | None:
        """Return the next feed, None after the last."""
        feed = next(self._feeds, None)
        return None if feed is None else dict(feed)


def dynamic(model: Path, output: Path, calibration: Path | None) -> None:
    """``quantize_dynamic`` as it is by default."""
    quantize_dynamic(model, output)


def dynamic_per_channel(model: Path, output: Path, calibration: Path | None) -> None:
    """``quantize_dynamic`` with a scale per output channel."""
    quantize_dynamic(model, output, per_channel=True)


def static_default(model: Path, output: Path, calibration: Path | None) -> None:
    """``quantize_static`` as it is by default, after its own pre-processing."""
    _static(model, output, calibration)


def static_uint8_per_channel(model: Path, output: Path, calibration: Path | None) -> None:
    """``quantize_static`` with what is fast on x86: uint8 activations, int8 weights per channel, MinMax."""
    _static(model, output, calibration, per_channel=True, activation_type=QuantType.QUInt8)


def _static(model: Path, output: Path, calibration: Path | None, **options: Any) -> None:
    assert calibration is not None, "static quantization needs calibration data"
    with tempfile.TemporaryDirectory(prefix="peer-") as folder:
        prepared = Path(folder) / "prepared.onnx"
        _prepare(model, prepared)
        quantize_static(prepared, output, Samples(model, calibration), **options)


def _prepare(model: Path, prepared: Path) -> None:
    """``quant_pre_process``, without its symbolic shape inference where that gives up, as its error advises."""
    try:
        quant_pre_process(model, prepared)
    except Exception as error:
        if "symbolic shape inference" not in str(error):
            raise
        quant_pre_process(model, prepared, skip_symbolic_shape=True)


PEERS: dict[str, Peer] = {
    "quantize_dynamic": dynamic,
    "quantize_dynamic per channel": dynamic_per_channel,
    "quantize_static default": static_default,
    "quantize_static uint8 per channel": static_uint8_per_channel,
}
