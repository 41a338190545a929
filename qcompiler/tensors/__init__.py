"""Constants that lie on disk and are in memory only while somebody reads them."""

from __future__ import annotations

from qcompiler.tensors.mapped import mapped
from qcompiler.tensors.spool import SPOOLED_BYTES, kept, spooling
from qcompiler.tensors.widened import HALF_TYPES, Widened, stored_bytes

__all__ = ["HALF_TYPES", "SPOOLED_BYTES", "Widened", "kept", "mapped", "spooling", "stored_bytes"]
