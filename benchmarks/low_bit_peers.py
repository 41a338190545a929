"""ONNX Runtime's own weight-only quantizers (``matmul_nbits_quantizer``), 4 bits, groups of 32, asymmetric."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import CalibrationDataReader, matmul_nbits_quantizer

GROUP = 32
GPTQ_SAMPLES = 32
"""Its GPTQ keeps all activations of all samples in memory."""

Configure = Callable[[Path, Path], Any]


class _Samples(CalibrationDataReader):  # type: ignore[misc]
    """The first calibration windows, one a feed."""

    def __init__(self, model: Path, calibration: Path) -> None:
        import numpy as np

        with np.load(calibration) as data:
            self._rows = iter([{"input_ids": row[None]} for row in data["input_ids"][:GPTQ_SAMPLES]])

    def get_next(self) -> Any:
        """Return the next feed, None after the last."""
        return next(self._rows, None)


def _default(model: Path, calibration: Path) -> Any:
    return matmul_nbits_quantizer.DefaultWeightOnlyQuantConfig(block_size=GROUP, is_symmetric=False)


def _hqq(model: Path, calibration: Path) -> Any:
    return matmul_nbits_quantizer.HQQWeightOnlyQuantConfig(block_size=GROUP, bits=4)


def _k_quant(model: Path, calibration: Path) -> Any:
    return matmul_nbits_quantizer.KQuantWeightOnlyQuantConfig()


def _gptq(model: Path, calibration: Path) -> Any:
    return matmul_nbits_quantizer.GPTQWeightOnlyQuantConfig(
        calibration_data_reader=_Samples(model, calibration), block_size=GROUP
    )


CONFIGURATIONS: dict[str, Configure] = {
    "matmul_nbits rtn": _default,
    "matmul_nbits hqq": _hqq,
    "matmul_nbits k_quant": _k_quant,
    "matmul_nbits gptq": _gptq,
}


def quantize(name: str, model: Path, output: Path, calibration: Path, *, lm_head: bool) -> None:
    """Write ``model`` with its MatMul weights in 4 bits, without the one that makes the output unless ``lm_head``."""
    proto = onnx.load(model)
    quantizer = matmul_nbits_quantizer.MatMulNBitsQuantizer(
        proto,
        bits=4,
        block_size=GROUP,
        is_symmetric=False,
        nodes_to_exclude=[] if lm_head else output_products(proto),
        algo_config=CONFIGURATIONS[name](model, calibration),
    )
    quantizer.process()
    quantizer.model.save_model_to_file(str(output))


def output_products(model: onnx.ModelProto) -> list[str]:
    """Names of the MatMul nodes whose result is an output of the model."""
    outputs = {value.name for value in model.graph.output}
    return [node.name for node in model.graph.node if node.op_type == "MatMul" and set(node.output) & outputs]
