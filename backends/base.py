"""What a target is: what it can execute, as data, and how the dialect is lowered to it."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.numerics.formats.base import Format

Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class ActivationFormat:
    """How a target wants activations of integer kernels."""

    dtype: ir.DataType = ir.DataType.UINT8
    symmetric: bool = False

    @property
    def code_range(self) -> tuple[int, int]:
        """Smallest and largest code, both inclusive."""
        return (0, 255) if self.dtype == ir.DataType.UINT8 else (-128, 127)


@dataclass(frozen=True)
class WeightFormat:
    """How a target wants weights of integer kernels: symmetric int8 codes of ``bits`` bits."""

    bits: int = 8
    per_channel: bool = True

    @property
    def largest_code(self) -> int:
        """Codes lie in ``[-largest_code, largest_code]``: -128 is left out so that they are symmetric."""
        return int(2 ** (self.bits - 1) - 1)


@dataclass(frozen=True)
class Support:
    """What a target does with one kind of node.

    Attributes:
        static: runs in integers when its activations are quantized with fixed ranges.
        dynamic: runs in integers when its activations are quantized at run time.
        weight_only: its weight may be stored in int8 and is expanded cheaply at run time.
        output: whether an integer kernel exists only with a quantized output ("required"),
            with and without ("optional"), or never has one ("never").
        follows: has an integer kernel worth using only between values that are quantized anyway
            (elementwise, pooling, data movement).
        same_scale: moves codes without changing them, so output and input share scale and zero point.
        reason: why it is left in float, where it is.
    """

    static: bool = False
    dynamic: bool = False
    weight_only: bool = False
    output: Literal["required", "optional", "never"] = "optional"
    follows: bool = False
    same_scale: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Lowering:
    """What legalization did with one quantized node of the dialect."""

    node: str
    kernel: str
    """The op of the target that is meant to run it, or "" when it runs by its reference semantics."""
    reason: str = ""
    rounding_db: float | None = None
    """SQNR down to which the kernel may differ from the dialect by rounding activations that the dialect leaves in
    float; None where it computes what the dialect says."""
    copy_bytes: int = 0
    """Bytes that a second form of the weight adds, for the first node that needs it."""


@dataclass(frozen=True)
class NodeKey:
    """A node of the user's file, by its name and the names of its outputs."""

    name: str
    op_type: str
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class NodeKernel:
    """Which kernel really runs a node, read back from the runtime."""

    node: str
    kernel: str
    integer: bool
    note: str = ""


@dataclass(frozen=True)
class LegalizeReport:
    """What lowering did.

    Attributes:
        lowered: every quantized node.
        fusions: how often each was applied.
        measured: options of the target that had to be measured.
        without_effect: options of the target that were set and that nothing in the model is subject to.
    """

    lowered: tuple[Lowering, ...] = ()
    fusions: Mapping[str, int] = field(default_factory=dict)
    measured: Mapping[str, int] = field(default_factory=dict)
    without_effect: tuple[str, ...] = ()

    @property
    def copies(self) -> str:
        """What second forms of weights cost, in a sentence; "" where there are none."""
        nodes = sum(1 for item in self.lowered if item.copy_bytes)
        size_bytes = sum(item.copy_bytes for item in self.lowered)
        if not nodes:
            return ""
        return (
            f"int8 copies for prefill: {nodes}, {size_bytes / 1e6:.1f} MB in all: --size-first leaves it out."
        )


class Session(abc.ABC):
    """One loaded model on one runtime."""

    input_names: Sequence[str]
    output_names: Sequence[str]

    @abc.abstractmethod
    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once; keys are the model's input and output names."""


class Target(abc.ABC):
    """Base of every target; subclasses are frozen dataclasses whose fields are options."""

    name: ClassVar[str]
    description: ClassVar[str]
    suffix: ClassVar[str] = ".onnx"
    """What the name of a compiled model's main file ends in."""

    @abc.abstractmethod
    def available(self) -> str | None:
        """None when it can be used here, else the reason and the remedy in one line."""

    def resolved(self) -> Target:
        """The same target with nothing left to the machine at hand: what a manifest must record."""
        return self

    def caveat(self) -> str:
        """What checks on this machine cannot show about the machine that will run the model; "" where nothing."""
        return ""

    @property
    def untimed(self) -> str:
        """Why a result is not compared with float by the clock; "" where it is."""
        return ""

    @property
    def profiled(self) -> bool:
        """Whether its runtime says how long each node takes, so that slow ones can be put back to float."""
        return True

    @property
    def stores_half(self) -> bool:
        """Whether float weights that the user's file has in 16 bits are stored so, behind a Cast."""
        return True

    @property
    def widens_codes(self) -> bool:
        """Whether its files may hold int8 weights in fewer bits, which become int8 when a model is loaded."""
        return False

    @property
    def stores_tables(self) -> bool:
        """Whether weights whose levels are a table (nf4) take no more bits in its files than their codes."""
        return False

    @property
    def two_bit_types(self) -> bool:
        """Whether codes of 2 bits must be int2 or uint2 (opset 25) to take 2 bits in its files."""
        return False

    @property
    @abc.abstractmethod
    def activation(self) -> ActivationFormat: ...

    @property
    @abc.abstractmethod
    def weight(self) -> WeightFormat: ...

    @abc.abstractmethod
    def support(self, node: ir.Node) -> Support:
        """What this target does with ``node``; ``Support.reason`` says why not."""

    def refuses(self, stored: Format) -> str:
        """Why this target cannot run weights of a low-bit format; "" where it can, natively or by reference."""
        del stored
        return ""

    def require_importable(self, model: ir.Model) -> None:
        """Refuse at once a prepared float model that could not be lowered after hours of calibration.

        Raises:
            UnsupportedError: names the node and a remedy.
        """
        del model

    @abc.abstractmethod
    def legalize(self, model: ir.Model) -> LegalizeReport:
        """Rewrite dialect patterns in place into what the runtime executes natively."""

    def write(self, model: ir.Model, path: Path, *, external: bool | None) -> None:
        """Write a lowered model as it will be deployed: ``path`` and what belongs beside it.

        Raises:
            OutputError: the disk is full or the path cannot be written.
        """
        from qcompiler.package.write import write_model

        write_model(model, path, external=external)

    def mend(self, model: ir.Model, path: Path) -> list[str]:
        """Undo in ``model`` what the runtime left unfused in the file ``path`` made from it; return the names."""
        del model, path
        return []

    @abc.abstractmethod
    def session(self, path: Path, *, threads: int = 1) -> Session:
        """Open a compiled model as it will be deployed."""

    def checking_session(self, path: Path, *, threads: int = 1) -> Session:
        """Open it as far as this machine can, to compare what it computes; ``caveat`` says what is left open."""
        return self.session(path, threads=threads)

    @contextlib.contextmanager
    def variants(self, path: Path) -> Iterator[list[Path]]:
        """Files that always take one of the ways between which ``path`` chooses at run time; gone afterwards."""
        del path
        yield []

    @abc.abstractmethod
    def kernels(self, path: Path, nodes: Sequence[NodeKey]) -> list[NodeKernel]:
        """Read back from the runtime which kernel runs each of the named quantized nodes."""
