"""Values of models that are run once for each feed, and read as often as they are compared.

Opening a large model reads gigabytes.  What it made is kept instead: small values in memory, others on disk within
:func:`qcompiler.tensors.spooling`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import cast

import numpy as np
import onnx_ir as ir

from qcompiler.backends.base import Array, Session
from qcompiler.tensors import kept

KEPT_BYTES = 1 << 16
"""Larger values go to disk."""


class Recording:
    """Arrays by feed and name."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, Array | ir.TensorProtocol]] = {}

    def missing(self, feed: Mapping[str, Array], names: Iterable[str]) -> list[str]:
        """Those of ``names`` that nothing was kept of for this feed."""
        known = self._found.get(digest(feed), {})
        return [name for name in names if name not in known]

    def keep(self, feed: Mapping[str, Array], arrays: Mapping[str, Array]) -> None:
        """Add what a model made of ``feed``."""
        known = self._found.setdefault(digest(feed), {})
        known |= {name: _stored(array) for name, array in arrays.items()}

    def read(self, feed: Mapping[str, Array], names: Iterable[str]) -> dict[str, Array]:
        """Copies of what was kept, in the order of ``names``."""
        known = self._found[digest(feed)]
        return {name: _array(known[name]) for name in names}

    def outlines(self, feed: Mapping[str, Array], names: Iterable[str]) -> dict[str, Array]:
        """For each of ``names`` an array of that type and shape that takes no memory."""
        known = self._found[digest(feed)]
        return {name: _outline(known[name]) for name in names}


class ReplayedSession(Session):
    """What a session made of some feeds, once it is closed.

    Args:
        session: run at once on every feed, and not held afterwards.
    """

    def __init__(self, session: Session, feeds: Iterable[Mapping[str, Array]]) -> None:
        from qcompiler.backends.onnxruntime.session import OrtSession
        from qcompiler.backends.run_feed import run_feed

        self.input_names, self.output_names = session.input_names, session.output_names
        self.shows_inside = isinstance(session, OrtSession)
        self._recording = Recording()
        for index, feed in enumerate(feeds):
            self._recording.keep(self._given(feed), run_feed(session, feed, index))

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return self._recording.read(self._given(feeds), self.output_names)

    def _given(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        return {name: feed[name] for name in self.input_names if name in feed}


def digest(feed: Mapping[str, Array]) -> str:
    """One short text for one content."""
    found = hashlib.sha256()
    for name in sorted(feed):
        array = np.ascontiguousarray(feed[name])
        found.update(f"{name} {array.dtype} {array.shape} ".encode())
        found.update(repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes())
    return found.hexdigest()


def _stored(array: Array) -> Array | ir.TensorProtocol:
    plain = isinstance(array, np.ndarray) and not array.dtype.hasobject
    if not plain or array.nbytes < KEPT_BYTES:
        return array
    tensor = ir.Tensor(array)
    stored = kept(tensor, least_bytes=KEPT_BYTES)
    return array if stored is tensor else stored


def _array(stored: Array | ir.TensorProtocol) -> Array:
    # Copied, not mapped: every map holds the file open once more, and there are thousands of values.
    return stored.numpy().copy() if isinstance(stored, ir.LazyTensor) else cast(Array, stored)


def _outline(stored: Array | ir.TensorProtocol) -> Array:
    if not isinstance(stored, ir.LazyTensor):
        return cast(Array, stored)
    return np.broadcast_to(np.zeros((), stored.dtype.numpy()), stored.shape.numpy())
