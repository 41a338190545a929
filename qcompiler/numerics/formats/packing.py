"""Codes in bytes, as MatMulNBits of ONNX Runtime reads them: little end first, groups padded to whole ones.

codes [K, N]       -> [N, G, blob]        G = ceil(K / group), blob = group * bits / 8
zero points [G, N] -> [N, ceil(G * bits / 8)]
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qcompiler.errors import OptionError
from qcompiler.numerics.formats.blocks import for_each, split_columns

Codes = npt.NDArray[np.uint8]

PACKED_BITS = (2, 4, 8)


def pack_last(codes: Codes, bits: int) -> Codes:
    """Pack the last axis: ``[..., n]`` to ``[..., ceil(n * bits / 8)]``, first code in the lowest bits, zeros behind.

    Args:
        codes: uint8, every code below ``2 ** bits`` (not checked).
        bits: 2, 4 or 8.

    Raises:
        OptionError: other bits.
    """
    per_byte = _per_byte(bits)
    if per_byte == 1:
        return codes.copy()
    short = -codes.shape[-1] % per_byte
    if short:
        codes = np.concatenate([codes, np.zeros((*codes.shape[:-1], short), np.uint8)], axis=-1)
    packed = codes[..., ::per_byte].copy()
    for place in range(1, per_byte):
        packed |= codes[..., place::per_byte] << np.uint8(bits * place)
    return packed


def unpack_last(packed: Codes, bits: int, count: int) -> Codes:
    """Undo :func:`pack_last`: ``[..., bytes]`` to the first ``count`` codes ``[..., count]``.

    Raises:
        OptionError: bits are not 2, 4 or 8.
    """
    per_byte = _per_byte(bits)
    codes = np.empty((*packed.shape, per_byte), np.uint8)
    for place in range(per_byte):
        codes[..., place] = (packed >> np.uint8(bits * place)) & np.uint8((1 << bits) - 1)
    return codes.reshape(*packed.shape[:-1], -1)[..., :count]


def pack_groups(codes: Codes, bits: int, group: int, *, padding: int = 0) -> Codes:
    """Lay ``codes [K, N]`` out as MatMulNBits has its B: ``[N, G, group * bits / 8]``.

    Args:
        codes: uint8, below ``2 ** bits``.
        bits: 2, 4 or 8.
        group: rows of a group; whole bytes.
        padding: code of the rows that a short last group lacks.

    Raises:
        OptionError: bits are not 2, 4 or 8, or a group is not whole bytes.
    """
    per_byte = _per_byte(bits)
    if group % per_byte:
        raise OptionError(
            f"a group of {group} codes of {bits} bits is not whole bytes; use a multiple of {per_byte}"
        )
    rows, columns = codes.shape
    groups = -(-rows // group)
    packed = np.empty((columns, groups * group // per_byte), np.uint8)
    full = rows // per_byte * per_byte
    filled = -(-rows // per_byte)
    packed[:, filled:] = sum(padding << (bits * place) for place in range(per_byte))

    def work(columns_of_block: slice) -> None:
        packed[columns_of_block, : full // per_byte] = _bytes_of(codes[:full, columns_of_block], bits).T

    for_each(split_columns(full, columns), work)
    if filled * per_byte > full:
        tail = np.full((per_byte, columns), padding, np.uint8)
        tail[: rows - full] = codes[full:]
        packed[:, full // per_byte] = _bytes_of(tail, bits)[0]
    return packed.reshape(columns, groups, group // per_byte)


def unpack_groups(packed: Codes, bits: int, rows: int) -> Codes:
    """Undo :func:`pack_groups`: ``[N, G, blob]`` to codes ``[rows, N]``.

    Raises:
        OptionError: bits are not 2, 4 or 8.
    """
    flat = packed.reshape(packed.shape[0], -1)
    return np.ascontiguousarray(unpack_last(flat, bits, rows).T)


def pack_zero_points(zero_point: Codes, bits: int) -> Codes:
    """Lay zero points ``[G, N]`` out as MatMulNBits has them: ``[N, ceil(G * bits / 8)]``.

    Raises:
        OptionError: bits are not 2, 4 or 8.
    """
    return pack_last(np.ascontiguousarray(zero_point.T), bits)


def _bytes_of(codes: Codes, bits: int) -> Codes:
    """Neighbouring rows in one byte: ``[K, N]`` to ``[K * bits / 8, N]``."""
    per_byte = 8 // bits
    packed: Codes = codes[::per_byte].copy()
    for place in range(1, per_byte):
        packed |= codes[place::per_byte] << np.uint8(bits * place)
    return packed


def _per_byte(bits: int) -> int:
    if bits not in PACKED_BITS:
        raise OptionError(f"codes of {bits} bits are not packed into bytes; use 2, 4 or 8 (3 bits go into 4)")
    return 8 // bits
