"""Whether a feed fits the model: names, dtypes, shapes, finite values.

Casts that ``qcompiler.data.casts`` allows are made and logged once; everything else is an error that names the input,
what was seen and what was expected.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from qcompiler.data.casts import CastRefusedError, cast_values, family, is_extension
from qcompiler.data.empty_cache import missing_inputs
from qcompiler.data.feeds import Array, InputSpec
from qcompiler.data.reason import first_line
from qcompiler.errors import CalibrationError, OptionError, suggest

logger = logging.getLogger(__name__)

_LAYER = re.compile(r"(?<=\.)\d+(?=\.)")


class FeedChecker:
    """Turns raw records into feeds of one model; remembers what it left out and what it has logged."""

    def __init__(self, specs: Sequence[InputSpec], columns: Mapping[str, str]) -> None:
        """``columns`` maps model inputs to their names in the data, where they differ."""
        self.specs = tuple(specs)
        names = {spec.name for spec in specs}
        for name in columns:
            if name not in names:
                raise OptionError(
                    f"--calib-column names {name!r}, not an input of the model.{suggest(name, names)}"
                )
        self._source = {spec.name: columns.get(spec.name, spec.name) for spec in specs}
        self._unused: set[str] = set()
        self._made: set[str] = set()
        self._logged: set[tuple[str, str]] = set()

    @property
    def unused(self) -> tuple[str, ...]:
        """Names seen in the data that are no input of the model."""
        return tuple(sorted(self._unused))

    @property
    def made(self) -> tuple[str, ...]:
        """Inputs that the data lacked and that were made: a decoder's mask and its empty cache."""
        return tuple(sorted(self._made))

    def source_name(self, name: str) -> str:
        """Return the name in the data of a model input."""
        return self._source[name]

    def check(self, record: Mapping[str, object], labels: Sequence[str]) -> dict[str, Array]:
        """Return the feed that ``record`` holds, in the model's dtypes, C-contiguous.

        Args:
            record: raw arrays (or nested lists) by their name in the data; read only where needed.
            labels: where each sample comes from, or a single label for the whole feed; for messages.

        Raises:
            CalibrationError: a missing input, an unsafe cast, a wrong shape, NaN or infinity.
        """
        made = missing_inputs(record, self.specs, self._source)
        self._made |= set(made)
        self._match(record, labels[0], {self._source[name] for name in made})
        return {
            spec.name: made[spec.name]
            if spec.name in made
            else self._fit(record[self._source[spec.name]], spec, labels)
            for spec in self.specs
        }

    def _match(self, record: Mapping[str, object], label: str, made: set[str]) -> None:
        found = set(record)
        wanted = set(self._source.values())
        for name in self._source.values():
            if name in found or name in made:
                continue
            near = difflib.get_close_matches(name, sorted(found - wanted), n=1, cutoff=0.4)
            hint = f" Did you mean {near[0]!r}? Then give --calib-column {name}={near[0]}." if near else ""
            target = next(spec.name for spec in self.specs if self._source[spec.name] == name)
            looked = "" if target == name else f", under the name {name!r}"
            raise CalibrationError(
                f"{label} has nothing for the model input {target!r}{looked}: "
                f"expected {listed(wanted)}; found {listed(found) or 'nothing'}."
                f"{hint or ' Add it, or map it with --calib-column INPUT=NAME.'}"
            )
        extra = found - wanted - self._unused
        if extra:
            self._unused |= extra
            logger.info("%s: not inputs of the model, left out: %s", label, ", ".join(sorted(extra)))

    def _fit(self, value: object, spec: InputSpec, labels: Sequence[str]) -> Array:
        array = self._cast(as_array(value, spec, labels[0]), spec, labels[0])
        _check_shape(array, spec, labels[0])
        _check_finite(array, spec, labels)
        _check_ids(array, spec, labels)
        return np.asarray(array, order="C")  # not ascontiguousarray: that makes a 0-d array 1-d

    def _cast(self, array: Array, spec: InputSpec, label: str) -> Array:
        if array.dtype == spec.dtype:
            return array
        seen = array.dtype
        raw = seen.kind == "V" and seen.names is None and seen.itemsize == spec.dtype.itemsize
        if raw and is_extension(spec.dtype):
            return array.view(spec.dtype)  # .npy keeps bfloat16 and its like as raw bytes
        try:
            cast = cast_values(array, spec.dtype)
        except CastRefusedError as error:
            raise CalibrationError(
                f"{label}: input {spec.name!r} is {seen}, expected {spec.dtype}; {error}. Save it as {spec.dtype}."
            ) from error
        if (spec.name, str(seen)) not in self._logged:
            self._logged.add((spec.name, str(seen)))
            logger.info("input %r: %s in the data, cast to %s", spec.name, seen, spec.dtype)
        return cast


def listed(names: Iterable[str]) -> str:
    """Names in order; those of all layers, which differ in a number only, as one."""
    return ", ".join(dict.fromkeys(_LAYER.sub("*", name) for name in sorted(names)))


def as_array(value: object, spec: InputSpec, label: str) -> Array:
    """Return ``value`` (array, tensor, nested list) as an array; objects are refused except strings."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:  # ragged lists, tensors on a device
        reason = first_line(error)
        raise CalibrationError(
            f"{label}: input {spec.name!r} cannot become an array ({reason}). Make it one array."
        ) from error
    strings = spec.dtype == object and all(isinstance(item, str) for item in array.flat)
    if array.dtype == object and not strings:
        raise CalibrationError(
            f"{label}: input {spec.name!r} holds Python objects, expected {spec.dtype}. Save plain arrays."
        )
    return array


def _check_shape(array: Array, spec: InputSpec, label: str) -> None:
    if spec.shape is None:
        return
    seen = list(array.shape)
    if array.ndim != len(spec.shape):
        raise CalibrationError(
            f"{label}: input {spec.name!r} has rank {array.ndim} (shape {seen}), expected rank {len(spec.shape)} "
            f"({spec}). Give it every axis of the model's input, the batch included."
        )
    for axis, (have, want) in enumerate(zip(array.shape, spec.shape, strict=True)):
        if isinstance(want, int) and have != want:
            raise CalibrationError(
                f"{label}: input {spec.name!r} has shape {seen}, expected {want} instead of {have} on axis {axis} "
                f"({spec}). Resize the data to the model's input."
            )


def _check_ids(array: Array, spec: InputSpec, labels: Sequence[str]) -> None:
    """Negative ids count from the end of the table, as Gather takes them."""
    if spec.ids is None or not array.size:
        return
    outside = (array >= spec.ids) | (array < -spec.ids)
    if outside.any():
        index = tuple(int(i) for i in np.argwhere(outside)[0])
        where = labels[index[0]] if len(labels) > 1 else labels[0]
        raise CalibrationError(
            f"{where}: input {spec.name!r} holds the id {array[index]}, but the model knows {spec.ids} ids, from 0 "
            f"to {spec.ids - 1}. Give ids or the tokenizer that it was trained with."
        )


def _check_finite(array: Array, spec: InputSpec, labels: Sequence[str]) -> None:
    if family(array.dtype) not in ("float", "complex"):
        return
    finite = np.isfinite(array)
    if finite.all():
        return
    index = tuple(int(i) for i in np.argwhere(~finite)[0])
    where = labels[index[0]] if len(labels) > 1 else labels[0]
    raise CalibrationError(
        f"{where}: input {spec.name!r} holds {array[index]} at {list(index)} in its feed. Remove or mend that sample."
    )
