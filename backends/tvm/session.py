"""Running a compiled model: as a session of a target, and with as much of ONNX Runtime's session as measuring and
generating use, so that both treat every deployed model alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.backends.base import Array, Session
from qcompiler.backends.tvm.loader import LoadError, Model, index_path, read_index
from qcompiler.backends.tvm_cuda.loader import CudaModel
from qcompiler.errors import ModelError
from qcompiler.graph.cache_codes import decoded, encoded, read_scales

_KINDS = {
    "float32": "tensor(float)",
    "float16": "tensor(float16)",
    "float64": "tensor(double)",
    "bool": "tensor(bool)",
}


@dataclass(frozen=True)
class Argument:
    """An input or output as ONNX Runtime describes one: ``tensor(float)``, and free dimensions by name."""

    name: str
    type: str
    shape: list[int | str | None]


@dataclass(frozen=True)
class _Metadata:
    custom_metadata_map: dict[str, str]


class TvmSession(Session):
    """One loaded model."""

    def __init__(self, path: Path, *, threads: int = 1, on_host: bool = False) -> None:
        """Load it; ``on_host`` on the CPU, whatever device it was compiled for.

        Raises:
            ModelError: a file is missing or damaged, or no library fits this machine.
        """
        try:
            index = read_index(index_path(path))
            opened = Model if on_host or "device" not in index else CudaModel
            self.model = opened(path, threads=threads)
            self._metadata = dict(index["metadata"])
        except LoadError as error:
            raise ModelError(str(error)) from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # an index that somebody changed
            raise ModelError(
                f"{path} is damaged: {type(error).__name__} {error}; compile the model again."
            ) from error
        self.input_names = [item["name"] for item in self.model.inputs]
        self.output_names = [item["name"] for item in self.model.outputs]
        self._cache_scales = read_scales(self._metadata)

    def run(self, feeds: Mapping[str, Array] | None, feed: Mapping[str, Array] | None = None) -> Any:
        """Run once; called with None and a feed, as ONNX Runtime's sessions are, it gives a list."""
        if feed is not None:
            return list(self._run(feed).values())
        assert feeds is not None
        return decoded(self._run(encoded(feeds, self._cache_scales)), self._cache_scales)

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        try:
            return self.model.run(feeds)
        except LoadError as error:
            raise ModelError(str(error)) from error

    def get_inputs(self) -> list[Argument]:
        return [_argument(item) for item in self.model.inputs]

    def get_outputs(self) -> list[Argument]:
        return [_argument(item) for item in self.model.outputs]

    def get_modelmeta(self) -> _Metadata:
        return _Metadata(self._metadata)

    def io_binding(self) -> Binding:
        return Binding(self)

    def run_with_iobinding(self, binding: Binding) -> None:
        binding.run()


@dataclass(frozen=True)
class Value:
    """A tensor that stays where it is."""

    tensor: Any

    def numpy(self) -> Array:
        found: Array = np.from_dlpack(self.tensor)
        return found


@dataclass
class Binding:
    """Inputs that are bound once, and the outputs of the last run in the order in which they were bound.

    Caches that are bound as an input and as an output are written in place.
    """

    session: TvmSession
    _inputs: dict[str, Any] = field(default_factory=dict)
    _wanted: dict[str, None] = field(default_factory=dict)
    _outputs: list[Value] = field(default_factory=list)
    _caches: dict[str, Any] = field(default_factory=dict)

    def bind_cpu_input(self, name: str, array: Array) -> None:
        item = next(item for item in self.session.model.inputs if item["name"] == name)
        self._inputs[name] = self.session.model.tensor(item, {name: array})

    def bind_ortvalue_input(self, name: str, value: Any) -> None:
        if isinstance(value, Value):
            self._inputs[name] = value.tensor
        else:
            self.bind_cpu_input(name, value.numpy())

    def bind_output(self, name: str, device: str) -> None:
        del device
        self._wanted[name] = None

    def bind_ortvalue_output(self, name: str, value: Any) -> None:
        """Say that an output is the memory of the input that ``value`` was bound to before.

        Raises:
            ModelError: the model has no such output, or no such input was bound.
        """
        past = name.replace("present", "past_key_values", 1)
        if name not in self.session.model.in_place or past not in self._inputs:
            raise ModelError(f"output {name!r} cannot be bound to memory; bind it by bind_output.")
        del value
        self.bind_output(name, "cpu")
        self._caches[name] = self._inputs[past]

    def get_outputs(self) -> Sequence[Value]:
        return self._outputs

    def run(self) -> None:
        inputs = [self._inputs[name] for name in self.session.input_names]
        apart = set(self.session.model.in_place) - self._caches.keys() if self._caches else set()
        if apart:
            raise ModelError(
                f"output {min(apart)!r} is not bound to memory, as others are; bind all, or none."
            )
        found = self.session.model.call(inputs, in_place=bool(self._caches))
        names = [name for name in self.session.output_names if name not in self._caches]
        by_name = dict(zip(names, found, strict=True)) | self._caches
        self._outputs = [Value(by_name[name]) for name in self._wanted]


def _argument(item: Mapping[str, Any]) -> Argument:
    return Argument(item["name"], _KINDS.get(item["dtype"], f"tensor({item['dtype']})"), list(item["shape"]))
