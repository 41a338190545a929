"""Lowering the dialect to nodes that are one generated kernel each, and standard operators for the rest."""

from __future__ import annotations

import logging

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from qcompiler.backends.base import LegalizeReport, Lowering
from qcompiler.backends.onnxruntime.fusions import fuse_all
from qcompiler.backends.tvm.expand import expand_constants
from qcompiler.backends.tvm.fuse_epilogue import fuse_epilogues
from qcompiler.backends.tvm.importing.kernels import DOMAIN
from qcompiler.backends.tvm.layout import lower_convolutions
from qcompiler.backends.tvm.lower_codebook import lower_codebook
from qcompiler.backends.tvm.lower_float import lower_float
from qcompiler.backends.tvm.lower_gather import lower_gather
from qcompiler.backends.tvm.lower_hadamard import lower_hadamard
from qcompiler.backends.tvm.lower_int8 import lower_int8
from qcompiler.backends.tvm.lower_low_bit import lower_low_bit
from qcompiler.prepare.clean import remove_unused

logger = logging.getLogger(__name__)


def legalize(model: ir.Model) -> LegalizeReport:
    """Rewrite ``model`` in place; the order matters: weights first, then what surrounds them."""
    fusions = dict(fuse_all(model))
    if turned := lower_hadamard(model):
        fusions["hadamard"] = turned
    lowered = [*lower_gather(model), *lower_low_bit(model), *lower_codebook(model), *lower_int8(model)]
    model.graph.opset_imports.setdefault(DOMAIN, 1)
    remove_unused(model)
    InlinePass()(model)
    lowered += lower_convolutions(model)
    remove_unused(model)
    expanded = expand_constants(model)
    in_float = lower_float(model)
    fusions["epilogue"] = fuse_epilogues(model)
    remove_unused(model)
    known = {item.node for item in lowered}
    reason = "no kernel: its weight is expanded when the model is compiled"
    lowered += [Lowering(name, "", reason) for name in expanded if name not in known]
    logger.debug("%d products in float", len(in_float))
    return LegalizeReport(tuple(lowered), fusions)
