"""Figures in words."""

from __future__ import annotations


def megabytes(size_bytes: int) -> str:
    """``23.1 MB``, ``45.0 kB``, ``512 bytes``: decimal units, as disks are sold."""
    if size_bytes >= 1_000_000:
        return f"{size_bytes / 1e6:,.1f} MB"
    return f"{size_bytes / 1e3:.1f} kB" if size_bytes >= 1000 else f"{size_bytes} bytes"


def small(value: float) -> str:
    """A figure with three digits."""
    return f"{value:.3g}"


def counted(counts: dict[str, int]) -> str:
    """``27 Conv, 1 Gemm``."""
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def shares(part: float, whole: float) -> str:
    """``48 %``."""
    return f"{100 * part / whole:.0f} %" if whole else "0 %"


def change(before_bytes: float, after_bytes: float) -> str:
    """``23.1 MB -> 5.8 MB (4.00x smaller)``."""
    ratio = before_bytes / max(after_bytes, 1)
    words = f"{ratio:.2f}x smaller" if ratio >= 1 else f"{1 / ratio:.2f}x larger"
    return f"{megabytes(int(before_bytes))} -> {megabytes(int(after_bytes))} ({words})"
