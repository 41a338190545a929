"""Which passes and targets exist, by the names a user writes.

Other packages add passes through the entry-point group ``qcompiler.passes`` (``name = "module:Class"``).
"""

from __future__ import annotations

import functools
import importlib
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from qcompiler.errors import OptionError, suggest

if TYPE_CHECKING:
    from qcompiler.backends.base import Target
    from qcompiler.pipeline.base import Pass

PASSES = {
    "smoothquant": "qcompiler.passes.smoothquant:SmoothQuant",
    "outlier_channels": "qcompiler.passes.outlier_channels:OutlierChannels",
    "hadamard": "qcompiler.passes.hadamard:Hadamard",
    "cross_layer_equalization": "qcompiler.passes.cross_layer_equalization:CrossLayerEqualization",
    "int8_static": "qcompiler.passes.int8_static:Int8Static",
    "int8_dynamic": "qcompiler.passes.int8_dynamic:Int8Dynamic",
    "kv_int8": "qcompiler.passes.kv_int8:KvInt8",
    "awq": "qcompiler.passes.awq:Awq",
    "bias_correction": "qcompiler.passes.bias_correction:BiasCorrection",
    "int8": "qcompiler.passes.integers:Int8",
    "int4": "qcompiler.passes.integers:Int4",
    "int3": "qcompiler.passes.integers:Int3",
    "int2": "qcompiler.passes.integers:Int2",
    "nf4": "qcompiler.passes.four_bit_floats:Nf4",
    "fp4": "qcompiler.passes.four_bit_floats:Fp4",
    "fp8": "qcompiler.passes.scaled_floats:Fp8",
    "mxfp4": "qcompiler.passes.scaled_floats:MxFp4",
    "nvfp4": "qcompiler.passes.scaled_floats:NvFp4",
    "ternary": "qcompiler.passes.scaled_floats:Ternary",
    "q2_k": "qcompiler.passes.k_quants:Q2K",
    "q3_k": "qcompiler.passes.k_quants:Q3K",
    "q4_k": "qcompiler.passes.k_quants:Q4K",
    "q5_k": "qcompiler.passes.k_quants:Q5K",
    "q6_k": "qcompiler.passes.k_quants:Q6K",
    "q8_0": "qcompiler.passes.k_quants:Q8Zero",
    "q4_k_m": "qcompiler.passes.k_quants:Q4KM",
    "squeezellm": "qcompiler.passes.squeezellm:SqueezeLlm",
    "aqlm": "qcompiler.passes.aqlm:Aqlm",
    "gptq": "qcompiler.passes.gptq:Gptq",
    "gptaq": "qcompiler.passes.gptq:Gptaq",
    "hqq": "qcompiler.passes.hqq:Hqq",
}

TARGETS = {
    "ort-cpu": "qcompiler.backends.onnxruntime.cpu:OrtCpu",
    "tvm-cpu": "qcompiler.backends.tvm.target:TvmCpu",
    "tvm-cuda": "qcompiler.backends.tvm_cuda.target:TvmCuda",
    "onnx": "qcompiler.backends.onnx.portable:Onnx",
}


@functools.cache
def pass_table() -> dict[str, str]:
    """Built-in passes and those of installed packages; a name can be taken only once."""
    table = dict(PASSES)
    for point in entry_points(group="qcompiler.passes"):
        if point.name in table:
            raise OptionError(
                f"the pass name {point.name!r} of {point.value} is taken; uninstall one of the two."
            )
        table[point.name] = point.value
    return table


def pass_class(name: str) -> type[Pass]:
    """The class behind a pass name.

    Raises:
        OptionError: no pass has that name.
    """
    table = pass_table()
    if name == "auto":
        raise OptionError("auto chooses the passes itself, so it stands alone: --passes auto.")
    if name not in table:
        raise OptionError(f"there is no pass {name!r}.{suggest(name, table)}")
    found: type[Pass] = _load(table[name])
    return found


def target_class(name: str) -> type[Target]:
    """The class behind a target name.

    Raises:
        OptionError: no target has that name.
    """
    if name not in TARGETS:
        raise OptionError(f"there is no target {name!r}.{suggest(name, TARGETS)}")
    found: type[Target] = _load(TARGETS[name])
    return found


def _load(reference: str) -> type:
    module, _, attribute = reference.partition(":")
    loaded: type = getattr(importlib.import_module(module), attribute)
    return loaded
