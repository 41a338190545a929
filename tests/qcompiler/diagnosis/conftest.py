"""Float models, and what this compiler and onnxruntime.quantization make of them, each made once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest

import qcompiler
from qcompiler.data.feeds import Feed
from qcompiler.diagnosis.facts import Diagnosis
from qcompiler.diagnosis.run import DiagnoseOptions
from qcompiler.models import catalog

MODELS = Path(str(catalog.__file__)).parent
DIGITS = MODELS / "digits" / "digits.onnx"
DIGITS_DATA = MODELS / "digits" / "digits_calib.npz"
DIGITS_TEST = MODELS / "digits" / "digits_test.npz"
PYDOC = MODELS / "pydoc_lm" / "pydoc_lm.onnx"
PYDOC_DATA = MODELS / "pydoc_lm" / "calib.npz"
PYDOC_TEST = MODELS / "pydoc_lm" / "heldout.npz"

Quantized = Callable[[str], onnx.ModelProto]

MLP = """
<ir_version: 10, opset_import: ["" : 21]>
mlp (float[N, 32] x) => (float[N, 8] y)
{
    first = MatMul (x, w1)
    first_bias = Add (first, b1)
    hidden = Relu (first_bias)
    second = MatMul (hidden, w2)
    active = Relu (second)
    y = MatMul (active, w3)
}
"""


@pytest.fixture(scope="session")
def mlp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three layers; the second weight is square, so that its axes can be mistaken for each other."""
    random = np.random.default_rng(0)
    spread = np.exp(random.normal(0, 0.7, 32)).astype(np.float32)
    constants = {
        "w1": random.normal(0, 0.2, (32, 32)),
        "b1": random.normal(0, 0.1, 32),
        "w2": random.normal(0, 0.2, (32, 32)) * spread,
        "w3": random.normal(0, 0.2, (32, 8)),
    }
    tensors = [ir.tensor(array.astype(np.float32), name=name) for name, array in constants.items()]
    model = ir.from_onnx_text(MLP, initializers=tensors)
    for node in model.graph:
        node.name = f"/{node.outputs[0].name}"
    path = tmp_path_factory.mktemp("mlp") / "mlp.onnx"
    ir.save(model, path)
    return path


@pytest.fixture(scope="session")
def mlp_feeds() -> list[Feed]:
    random = np.random.default_rng(1)
    return [{"x": random.normal(size=(16, 32)).astype(np.float32)} for _ in range(4)]


class Reader:
    """Calibration data as onnxruntime.quantization wants it."""

    def __init__(self, feeds: list[Feed]) -> None:
        self._feeds: Iterator[Feed] = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


def feeds_of(path: Path, count: int, batch: int = 1) -> list[Feed]:
    data = np.load(path)
    return [
        {name: data[name][at : at + batch] for name in data.files} for at in range(0, count * batch, batch)
    ]


@pytest.fixture(scope="session")
def quantized(
    tmp_path_factory: pytest.TempPathFactory, mlp: Path, mlp_feeds: list[Feed]
) -> Callable[[str], onnx.ModelProto]:
    """A fresh copy of a quantized model by name; each is made once."""
    folder = tmp_path_factory.mktemp("quantized")
    makers: dict[str, Callable[[Path], object]] = {
        "mlp_qdq": lambda out: _static(mlp, out, mlp_feeds, "QDQ"),
        "mlp_ours": lambda out: _ours(mlp, out, "int8_static", mlp_feeds),
        "digits_qdq": lambda out: _static(DIGITS, out, feeds_of(DIGITS_DATA, 4, 16), "QDQ"),
        "digits_qop": lambda out: _static(DIGITS, out, feeds_of(DIGITS_DATA, 4, 16), "QOperator"),
        "digits_ours": lambda out: _ours(DIGITS, out, "int8_static", DIGITS_DATA),
        "pydoc_dynamic": lambda out: _dynamic(PYDOC, out),
        "pydoc_nbits": lambda out: _n_bits(PYDOC, out),
        "pydoc_bnb4": lambda out: _bnb4(PYDOC, out),
        "pydoc_ours": lambda out: _ours(PYDOC, out, "smoothquant,int8_static", PYDOC_DATA),
    }

    def make(name: str) -> onnx.ModelProto:
        path = folder / f"{name}.onnx"
        if not path.exists():
            logging.disable(logging.WARNING)
            makers[name](path)
            logging.disable(logging.NOTSET)
        return onnx.load(path)

    return make


def _static(model: Path, out: Path, feeds: list[Feed], form: str) -> None:
    from onnxruntime.quantization import QuantFormat, quantize_static

    quantize_static(model, out, Reader(feeds), quant_format=QuantFormat[form], per_channel=form == "QDQ")


def _dynamic(model: Path, out: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(model, out)


def _n_bits(model: Path, out: Path) -> None:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(onnx.load(model), block_size=32, is_symmetric=False, accuracy_level=4)
    quantizer.process()
    onnx.save(quantizer.model.model, out)


def _bnb4(model: Path, out: Path) -> None:
    from onnxruntime.quantization.matmul_bnb4_quantizer import MatMulBnb4Quantizer

    quantizer = MatMulBnb4Quantizer(onnx.load(model), MatMulBnb4Quantizer.NF4, 64)
    quantizer.process()
    onnx.save(quantizer.model.model, out)


def _ours(model: Path, out: Path, passes: str, data: object) -> None:
    options = qcompiler.CompileOptions(verify="none")
    qcompiler.compile(model, passes, calibration=data, output=out, options=options)


def array(model: onnx.ModelProto, name: str) -> npt.NDArray[Any]:
    return onnx.numpy_helper.to_array(_tensor(model, name)).copy()


def plant(model: onnx.ModelProto, name: str, values: npt.NDArray[Any]) -> None:
    """Put another array into an initializer; its type stays."""
    tensor = _tensor(model, name)
    old = onnx.numpy_helper.to_array(tensor)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(old.dtype), name))


def _tensor(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    found: onnx.TensorProto = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    return found


def diagnosed(
    reference: Path, model: onnx.ModelProto, data: object, *, samples: int = 3, suspects: int = 3
) -> Diagnosis:
    options = DiagnoseOptions(samples=samples, suspects=suspects)
    return qcompiler.diagnose(reference, model, data, options=options)
