"""Bringing any model into the one form that passes work on, without changing what it computes."""

from __future__ import annotations

from qcompiler.prepare.report import PrepareReport
from qcompiler.prepare.sequence import prepare

__all__ = ["PrepareReport", "prepare"]
