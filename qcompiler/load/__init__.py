"""Reading a model from outside; everything that can be wrong with it is found here."""

from __future__ import annotations

from qcompiler.load.model import load_model

__all__ = ["load_model"]
