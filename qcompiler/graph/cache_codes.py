"""A cache of keys and values in int8: which inputs and outputs of a graph hold codes, and what a code stands for.

    x = scale * code,   codes int8 ``[B, kv_heads, P, size]``, scale ``[1]`` or ``[1, kv_heads, 1, size]``

The scales are also written into the model's metadata, by the names of inputs and outputs, so that whoever runs the
model can compare its cache with a float one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

Scales = Mapping[str, npt.NDArray[np.float32]]

KEY = "qcompiler.cache_scales"


def write_scales(model: ir.Model, scales: Scales) -> None:
    """Note ``scales`` in the metadata of ``model``, beside those that are there."""
    known = json.loads(model.metadata_props.get(KEY, "{}"))
    known.update({name: scale.tolist() for name, scale in scales.items()})
    model.metadata_props[KEY] = json.dumps(known)


def read_scales(metadata: Mapping[str, str]) -> dict[str, npt.NDArray[np.float32]]:
    """What ``write_scales`` noted; empty for models without codes in their cache."""
    noted = json.loads(metadata.get(KEY, "{}"))
    return {name: np.asarray(scale, np.float32) for name, scale in noted.items()}


def encoded(
    feeds: Mapping[str, npt.NDArray[np.generic]], scales: Scales
) -> dict[str, npt.NDArray[np.generic]]:
    """Feeds in which float caches became codes, rounded half to even and clipped to -128 and 127."""
    return {
        name: _codes(array, scales[name]) if name in scales and array.dtype.kind == "f" else array
        for name, array in feeds.items()
    }


def decoded(
    outputs: Mapping[str, npt.NDArray[np.generic]], scales: Scales
) -> dict[str, npt.NDArray[np.generic]]:
    """Outputs in which codes became the float32 numbers that they stand for."""
    return {
        name: array.astype(np.float32) * scales[name] if name in scales else array
        for name, array in outputs.items()
    }


def _codes(array: npt.NDArray[np.generic], scale: npt.NDArray[np.float32]) -> npt.NDArray[np.int8]:
    codes: npt.NDArray[np.int8] = np.clip(np.rint(array.astype(np.float32) / scale), -128, 127).astype(
        np.int8
    )
    return codes
