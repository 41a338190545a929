"""The key and value cache of one text, bound to a session as OrtValues."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from qcompiler.errors import UnsupportedError
from qcompiler.language.signature import CacheSlot

if TYPE_CHECKING:
    import onnxruntime

_NUMPY: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
}


class Cache(ABC):
    """The cache of one text. ``bind`` before every run, ``took`` after it."""

    @abstractmethod
    def bind(self, binding: onnxruntime.IOBinding) -> None:
        """Bind past and present, in the order of the slots."""

    @abstractmethod
    def took(self, presents: Sequence[onnxruntime.OrtValue]) -> None:
        """Keep what the run gave, in the order of the slots."""


class SharedCache(Cache):
    """Past and present are one buffer of the full length, appended to in place."""

    def __init__(self, slots: Sequence[CacheSlot], capacity: int) -> None:
        self._slots = slots
        self._buffers = [zeroed(slot, 1, capacity) for slot in slots]
        self._bound = False

    def bind(self, binding: onnxruntime.IOBinding) -> None:
        if self._bound:
            return
        for slot, buffer in zip(self._slots, self._buffers, strict=True):
            binding.bind_ortvalue_input(slot.past, buffer)
            binding.bind_ortvalue_output(slot.present, buffer)
        self._bound = True

    def took(self, presents: Sequence[onnxruntime.OrtValue]) -> None:
        """Nothing to do: the buffers have it."""


class ReboundCache(Cache):
    """The present of one step is the past of the next: never copied, but allocated anew by every step."""

    def __init__(self, slots: Sequence[CacheSlot]) -> None:
        self._slots = slots
        self._past: Sequence[onnxruntime.OrtValue] = [zeroed(slot, 1, 0) for slot in slots]

    def bind(self, binding: onnxruntime.IOBinding) -> None:
        for slot, past in zip(self._slots, self._past, strict=True):
            binding.bind_ortvalue_input(slot.past, past)
            binding.bind_output(slot.present, "cpu")

    def took(self, presents: Sequence[onnxruntime.OrtValue]) -> None:
        self._past = presents


def zeroed(slot: CacheSlot, batch: int, tokens: int) -> onnxruntime.OrtValue:
    """A cache ``[batch, heads, tokens, width]`` of zeros; pages that are never written are never taken.

    Raises:
        UnsupportedError: the slot's element type is none that NumPy has.
    """
    import onnxruntime

    if slot.kind not in _NUMPY:
        raise UnsupportedError(
            f"the cache input {slot.past} is a {slot.kind}, expected one of {', '.join(_NUMPY)}; export the model "
            "with such a cache."
        )
    shape = (batch, slot.heads, tokens, slot.width)
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, _NUMPY[slot.kind]))
