"""A decoder as one graph for prefill and decode: tokens, mask and past in; logits and present out.

    input_ids [B, T], attention_mask [B, P + T], past_key_values.{i}.key and .value [B, kv_heads, P, size]
    -> logits [B, T, V], present.{i}.key and .value [B, kv_heads, P + T, size]

``P`` may be zero (prefill), ``T`` may be any length.  Positions are counted from the mask.  Attention is ONNX Runtime's
GroupQueryAttention wherever the architecture allows, else standard operators (see ``cache_attention``).
Importing this module imports torch and transformers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import onnx_ir as ir
import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from qcompiler.errors import UnsupportedError
from qcompiler.models.cache_attention import FusedLayer, Lengths, UnfitError, begin_step, fused_attention

Past = list[dict[str, torch.Tensor]]

AXES = {
    "input_ids": {0: "batch", 1: "sequence"},
    "attention_mask": {0: "batch", 1: "total_sequence"},
}
PAST_AXES = {0: "batch", 2: "past_sequence"}


@dataclass(frozen=True)
class CacheShape:
    """Of every layer's cache: ``[B, kv_heads[i], P, sizes[i]]``."""

    kv_heads: tuple[int, ...]
    sizes: tuple[int, ...]

    def empty(self, batch: int, length: int, *, seed: int | None = None) -> Past:
        """A past of ``length`` tokens: zeros, or random numbers where a ``seed`` is given."""
        generator = torch.Generator().manual_seed(seed or 0)
        make = torch.zeros if seed is None else _random(generator)
        return [
            {name: make((batch, heads, length, size)) for name in ("key", "value")}
            for heads, size in zip(self.kv_heads, self.sizes, strict=True)
        ]


def _random(generator: torch.Generator) -> Callable[[tuple[int, ...]], torch.Tensor]:
    return lambda shape: torch.randn(shape, generator=generator)


@dataclass(frozen=True)
class CacheGraph:
    """The traced graph; ``plain`` says why attention is standard operators, None where it is GroupQueryAttention."""

    program: ir.Model
    shape: CacheShape
    plain: str | None


def trace(model: PreTrainedModel, *, opset: int | None, attention: str | None = None) -> CacheGraph:
    """Trace ``model`` (float32) with its cache.

    Args:
        attention: ``"plain"`` keeps standard operators also where GroupQueryAttention would fit.

    Raises:
        UnsupportedError: an architecture without a cache of keys and values, or one that cannot be traced.
    """
    shape = measure(model)
    plain = "asked for" if attention == "plain" else _unfit(model, shape)
    with nullcontext() if plain else fused_attention(model), _steps(model, fused=plain is None):
        program = _export(model, shape, opset)
    return CacheGraph(program, shape, plain)


def measure(model: PreTrainedModel) -> CacheShape:
    """Heads and sizes of the cache, from running one token.

    Raises:
        UnsupportedError: the model keeps anything but one key and one value for each layer.
    """
    cache: Any = DynamicCache()
    try:
        with torch.no_grad():
            model(input_ids=torch.zeros((1, 2), dtype=torch.int64), past_key_values=cache, use_cache=True)
        shapes = [(layer.keys.shape, layer.values.shape) for layer in cache.layers]
    except Exception as error:  # a model that cannot take this cache says so in its own words
        raise _no_cache(model, _first_line(error)) from error
    if not shapes or any(key != value or len(key) != 4 or key[2] != 2 for key, value in shapes):
        raise _no_cache(model, "its state is not one key and one value of the same shape for each layer")
    return CacheShape(tuple(key[1] for key, _ in shapes), tuple(key[3] for key, _ in shapes))


def _no_cache(model: PreTrainedModel, reason: str) -> UnsupportedError:
    return UnsupportedError(
        f"{type(model).__name__} cannot be exported with a cache: {reason}; export it without one (--no-cache)."
    )


def _first_line(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _unfit(model: PreTrainedModel, shape: CacheShape) -> str | None:
    """Why GroupQueryAttention does not fit, found by one run of the model."""
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return "its positions cannot be given from outside"
    try:
        with fused_attention(model), _steps(model, fused=True), torch.no_grad():
            model(**_example(shape, batch=1))
    except UnfitError as error:
        return str(error)
    except Exception as error:  # whatever a model's own Python raises when its attention is another
        return f"its attention cannot be replaced ({_first_line(error)})"
    return None


@contextmanager
def _steps(model: PreTrainedModel, *, fused: bool) -> Iterator[None]:
    """``model.forward`` is one step of the graph within."""
    original = model.forward
    counts = "position_ids" in inspect.signature(original).parameters

    def step(
        input_ids: torch.Tensor, attention_mask: torch.Tensor, past_key_values: Past
    ) -> dict[str, object]:
        layers: list[Any] = (
            _fused_layers(past_key_values, attention_mask) if fused else _plain_layers(past_key_values)
        )
        given: dict[str, Any] = {} if fused else {"attention_mask": attention_mask}
        if counts:
            positions = (attention_mask.cumsum(1) - 1).clamp(min=0)
            given["position_ids"] = positions[:, -input_ids.shape[1] :]
        result = original(input_ids=input_ids, past_key_values=Cache(layers=layers), use_cache=True, **given)
        return {"logits": result.logits, "present": [_present(layer) for layer in layers]}

    model.forward = step
    try:
        yield
    finally:
        model.forward = original


def _fused_layers(past: Past, mask: torch.Tensor) -> list[FusedLayer]:
    last = mask.sum(1).to(torch.int32) - 1
    total = torch.full((), mask.shape[1], dtype=torch.int32)
    layers = [FusedLayer(layer["key"], layer["value"], Lengths(last, total, mask.shape[1])) for layer in past]
    begin_step(layers)
    return layers


def _plain_layers(past: Past) -> list[DynamicLayer]:
    """Layers that keep everything: a window is in the mask, not in the cache."""
    layers = []
    for states in past:
        layer = DynamicLayer()  # type: ignore[no-untyped-call]
        layer.keys, layer.values, layer.is_initialized = states["key"], states["value"], True
        layer.dtype, layer.device = states["key"].dtype, states["key"].device
        layers.append(layer)
    return layers


def _present(layer: DynamicLayer) -> dict[str, torch.Tensor | None]:
    if not isinstance(layer, FusedLayer):
        return {"key": layer.keys, "value": layer.values}
    if layer.present is None:
        raise UnfitError("a layer computes attention in its own way")
    return {"key": layer.present[0], "value": layer.present[1]}


def _example(shape: CacheShape, *, batch: int = 2, length: int = 5, past: int = 3) -> dict[str, Any]:
    """Sizes that no two axes share, so that none is taken for another."""
    return {
        "input_ids": torch.arange(batch * length).reshape(batch, length) % 7,
        "attention_mask": torch.ones((batch, past + length), dtype=torch.int64),
        "past_key_values": shape.empty(batch, past, seed=0),
    }


def _export(model: PreTrainedModel, shape: CacheShape, opset: int | None) -> ir.Model:
    exporters: Any = import_module("transformers.exporters.exporter_onnx")
    free: dict[str, Any] = {
        name: dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for name, axes in AXES.items()
    }
    layer = dict.fromkeys(PAST_AXES, torch.export.Dim.DYNAMIC)
    free["past_key_values"] = [{"key": layer, "value": layer} for _ in shape.kv_heads]
    config = exporters.OnnxConfig(dynamic=True, dynamic_shapes=free, opset_version=opset)
    try:
        program: ir.Model = exporters.OnnxExporter().export(model, _example(shape), config=config).program
    except Exception as error:  # torch.export raises whatever the model's own Python raises
        raise UnsupportedError(
            f"{type(model).__name__} cannot be exported with a cache by transformers.exporters: {_first_line(error)}; "
            "export it without one (--no-cache), or try a newer transformers."
        ) from error
    return program
