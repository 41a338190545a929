"""ONNX Runtime sessions whose timings can be trusted, and runners made of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from qcompiler.errors import CalibrationError, ModelError
from qcompiler.graph.cache_codes import encoded, read_scales
from qcompiler.package.deployed import is_deployed

if TYPE_CHECKING:
    import onnxruntime

Feed = Mapping[str, npt.NDArray[np.generic]]


def timing_options(*, threads: int = 1) -> onnxruntime.SessionOptions:
    """Session options for measuring: idle threads sleep, and what fails is raised, not logged.

    Spinning threads of an idle session take the processor away from the one being timed, by up to 3x.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def timing_session(
    model: Path | str | bytes, *, threads: int = 1, options: onnxruntime.SessionOptions | None = None
) -> onnxruntime.InferenceSession:
    """Open a model on the CPU provider with ``timing_options``, or with the given ones.

    A model compiled to native code is opened by its own runtime, behind the same methods.

    Args:
        model: path of an ONNX file or of a compiled model's index, or a serialized ``ModelProto`` without external
            data.
        threads: threads within an operator; only used when ``options`` is None.
        options: session options that replace ``timing_options(threads=threads)``.

    Raises:
        ModelError: ONNX Runtime cannot load it.
    """
    if is_deployed(model):
        return _native_session(Path(os.fsdecode(model)), threads)
    import onnxruntime

    source = model if isinstance(model, bytes) else os.fspath(model)
    chosen = options or timing_options(threads=threads)
    try:
        return onnxruntime.InferenceSession(source, chosen, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors share no base class but this one
        shown = "the model in memory" if isinstance(model, bytes) else str(model)
        raise ModelError(
            f"ONNX Runtime cannot load {shown}: {_first_line(error)} Check it with `qcompile inspect`."
        ) from error


def _native_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    from qcompiler.backends.tvm.session import TvmSession

    session: Any = TvmSession(path, threads=threads)
    return session


def run_checked(session: onnxruntime.InferenceSession, feeds: Sequence[Feed], *, model: str) -> None:
    """Run every feed once, so that data which does not fit ends in one clear line before anything is timed.

    Raises:
        CalibrationError: no feeds, names that are not exactly the model's inputs, or a run that fails.
    """
    wanted = {value.name for value in session.get_inputs()}
    if not feeds:
        raise CalibrationError(f"no data to run {model} on: give at least one feed for {sorted(wanted)}.")
    for index, feed in enumerate(feeds):
        if set(feed) != wanted:
            raise CalibrationError(
                f"feed {index} has arrays for {sorted(feed)}, but {model} has the inputs {sorted(wanted)}; "
                "give one array per input, under its name."
            )
        try:
            session.run(None, fed(session, feed))
        except Exception as error:  # the runtime's errors share no base class but this one
            shapes = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in feed.items())
            raise CalibrationError(
                f"{model} does not run on feed {index} ({shapes}): {_first_line(error)} "
                "Give arrays of the dtypes and shapes that `qcompile inspect` lists."
            ) from error


def fed(session: onnxruntime.InferenceSession, feed: Feed) -> dict[str, npt.NDArray[np.generic]]:
    """``feed`` with its float caches in the codes that the model keeps."""
    return encoded(feed, read_scales(session.get_modelmeta().custom_metadata_map))


def session_runner(session: onnxruntime.InferenceSession, feeds: Sequence[Feed]) -> Callable[[], None]:
    """Return a call that runs every feed once, in order."""
    kept = [fed(session, feed) for feed in feeds]

    def run() -> None:
        for feed in kept:
            session.run(None, feed)

    return run


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
