"""A decoder session whose cache stays inside the runtime.

Past and present are bound as OrtValues. Where the graph allows it they are one buffer of the full length, to which
the runtime appends in place; elsewhere the present of one step is bound as the past of the next. Either way no
element of the cache passes through NumPy. Graphs without a cache compute the whole text again for every token.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from qcompiler.errors import ModelError, UnsupportedError
from qcompiler.language.cache import Cache, ReboundCache, SharedCache, zeroed
from qcompiler.language.sharing import shares_buffer
from qcompiler.language.signature import ATTENTION_MASK, INPUT_IDS, LOGITS, POSITION_IDS, read_signature

if TYPE_CHECKING:
    import onnxruntime

Tokens = npt.NDArray[np.int64]
Logits = npt.NDArray[np.floating]
CacheKind = Literal["in place", "rebound", "none"]

PREFILL_TOKENS = 512
"""A longer prompt goes through the graph in pieces, because the logits of every position come out with it."""


class Decoder:
    """An open language model.

    Attributes:
        signature: what the graph takes and gives.
        cache: how the cache of a text is kept: ``in place``, ``rebound``, or ``none``.
    """

    def __init__(self, model: Path, *, threads: int = 1) -> None:
        """Open a model file.

        Raises:
            ModelError: the runtime refuses it, or it is no language model.
            UnsupportedError: an input that generation cannot fill.
        """
        from qcompiler.measure.sessions import timing_session

        if not model.is_file():
            raise ModelError(f"{model} is no file; give a language-model folder or an .onnx file.")
        self.model = model
        self._session = timing_session(model, threads=threads)
        self.signature = read_signature(self._session, model)
        slots = self.signature.slots
        in_place = self.signature.has_mask and shares_buffer(model, slots)
        self.cache: CacheKind = "none" if not slots else "in place" if in_place else "rebound"

    def logits(self, tokens: Tokens) -> Logits:
        """Logits ``[B, T, vocabulary]`` of texts ``[B, T]`` from their beginning; no cache comes out.

        Rows shorter than T are filled at their end with any ids: no position sees what follows it.

        Raises:
            UnsupportedError: the graph fixes another batch or length.
            ModelError: the run fails.
        """
        fixed = (self.signature.batch, self.signature.length)
        if any(want not in (None, got) for want, got in zip(fixed, tokens.shape, strict=True)):
            raise UnsupportedError(
                f"{self.model} takes input_ids of {fixed[0] or 'any'} x {fixed[1] or 'any'} only, got "
                f"{tokens.shape[0]} x {tokens.shape[1]}; give such a batch and length, or export dynamic axes."
            )
        binding = self._session.io_binding()
        for slot in self.signature.slots:
            binding.bind_ortvalue_input(slot.past, zeroed(slot, len(tokens), 0))
        return self.run(binding, tokens, past=0)

    def start(self, capacity: int) -> Text:
        """Begin a text of at most ``capacity`` tokens.

        Raises:
            UnsupportedError: the graph fixes another batch, or the number of tokens.
        """
        if self.signature.length is not None or self.signature.batch not in (None, 1):
            raise UnsupportedError(
                f"{self.model} takes input_ids of one fixed shape; export it with dynamic axes to generate."
            )
        if self.cache == "none":
            return Recomputed(self, capacity)
        slots = self.signature.slots
        shared = self.cache == "in place"
        cache = SharedCache(slots, capacity) if shared else ReboundCache(slots)
        return Cached(self, capacity, self._session.io_binding(), cache)

    def run(self, binding: onnxruntime.IOBinding, tokens: Tokens, *, past: int) -> Logits:
        """Run ``tokens`` ``[B, T]`` that follow ``past`` others; the cache must be bound, the logits come first."""
        batch, length = tokens.shape
        feeds = {INPUT_IDS: np.ascontiguousarray(tokens, np.int64)}
        if self.signature.has_mask:
            feeds[ATTENTION_MASK] = np.ones((batch, past + length), np.int64)
        if self.signature.has_positions:
            feeds[POSITION_IDS] = np.tile(np.arange(past, past + length, dtype=np.int64), (batch, 1))
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        binding.bind_output(LOGITS, "cpu")
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # the runtime's errors share no base class but this one
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelError(
                f"{self.model} fails on {length} tokens after {past}: {reason}. Check it with `qcompile inspect`."
            ) from error
        logits: Logits = binding.get_outputs()[0].numpy()
        return logits


class Text:
    """One text that grows; GroupQueryAttention continues a batch by one token at a time only."""

    def __init__(self, decoder: Decoder, capacity: int) -> None:
        self._decoder = decoder
        self._capacity = capacity
        self.length = 0

    def extend(self, tokens: Tokens) -> Logits:
        """Append ``tokens`` ``[1, T]`` and return the logits ``[1, vocabulary]`` of what follows them.

        Raises:
            ModelError: the run fails.
        """
        if self.length + tokens.shape[1] > self._capacity:
            raise AssertionError(f"{tokens.shape[1]} tokens after {self.length} in {self._capacity}")
        logits = self._append(tokens)
        self.length += tokens.shape[1]
        return logits

    def _append(self, tokens: Tokens) -> Logits:
        raise NotImplementedError


class Cached(Text):
    """With a cache: only the new tokens go through the graph."""

    def __init__(self, decoder: Decoder, capacity: int, binding: onnxruntime.IOBinding, cache: Cache) -> None:
        super().__init__(decoder, capacity)
        self._binding, self._cache = binding, cache
        binding.bind_output(LOGITS, "cpu")  # first, because outputs come in the order of binding

    def _append(self, tokens: Tokens) -> Logits:
        for start in range(0, tokens.shape[1], PREFILL_TOKENS):
            self._cache.bind(self._binding)
            piece = tokens[:, start : start + PREFILL_TOKENS]
            logits = self._decoder.run(self._binding, piece, past=self.length + start)
            self._cache.took(self._binding.get_outputs()[1:])
        return logits[:, -1]


class Recomputed(Text):
    """Without a cache: the whole text goes through the graph for every token."""

    def __init__(self, decoder: Decoder, capacity: int) -> None:
        super().__init__(decoder, capacity)
        self._tokens: Tokens | None = None

    def _append(self, tokens: Tokens) -> Logits:
        self._tokens = tokens if self._tokens is None else np.concatenate([self._tokens, tokens], axis=1)
        return self._decoder.logits(self._tokens)[:, -1]
