"""Writing files so that an interrupted run leaves nothing half-written, and the same model gives the same bytes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import onnx_ir as ir

from qcompiler.errors import OutputError
from qcompiler.load.read import PROTOBUF_LIMIT_BYTES
from qcompiler.package.scratch import scratch_folder

EXTERNAL_BYTES = 100 << 20
"""Above this the weights go to a file of their own, which the runtime maps instead of copying."""

INLINE_BYTES = 1024
"""Smaller tensors stay in the model file."""

ALIGNMENT_BYTES = 4096
"""Offsets of external tensors are multiples of it: a page, and enough for every vector instruction."""


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A temporary folder on the same file system as ``folder``, gone afterwards whatever happens.

    So are the folders above it that had to be made, unless something was published into them.

    Raises:
        OutputError: ``folder`` cannot be made or written.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        with contextlib.ExitStack() as stack:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                stage = stack.enter_context(scratch_folder(folder))
            except OSError as error:
                raise OutputError(
                    f"{folder} cannot be written: {error.strerror}; choose another place with -o."
                ) from error
            yield stage
    finally:
        with contextlib.suppress(OSError):  # not empty: published into, or somebody else's by now
            for place in made:
                place.rmdir()


def write_model(model: ir.Model, path: Path, *, external: bool | None = None) -> None:
    """Write ``model`` to ``path`` and, where external, its weights to ``path`` + ".data".

    External weights are written one after another, each read when its turn comes, so that memory holds one of them;
    they begin at pages, which a runtime can map as they are.

    Args:
        external: None decides by size.

    Raises:
        OutputError: the disk is full, the path cannot be written, or weights of over 2 GB were asked to be inline.
    """
    size = sum(
        value.const_value.nbytes
        for graph in model.graphs()
        for value in graph.initializers.values()
        if value.const_value is not None
    )
    use_external = size > EXTERNAL_BYTES if external is None else external
    if not use_external and size > PROTOBUF_LIMIT_BYTES:
        raise OutputError(
            f"{path.name} has {size / 1e9:.1f} GB of weights, more than one file can hold (2.1 GB); "
            "let them go to a file of their own with --external-data."
        )
    try:
        if use_external:
            ir.save(
                model,
                path,
                external_data=f"{path.name}.data",
                size_threshold_bytes=INLINE_BYTES,
                alignment=ALIGNMENT_BYTES,
                align_threshold=INLINE_BYTES,
            )
        else:
            ir.save(model, path)
    except OSError as error:
        raise cannot_write(path.name, error) from error


def drop_traces(model: ir.Model) -> None:
    """Remove what exporters note about their own source lines: more bytes than the graph itself, and no use here.

    Types and shapes of initializers go too: they stand beside the data as well.
    """
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for output in node.outputs:
            output.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    for value in model.graph.initializers.values():
        if not value.is_graph_input() and not value.is_graph_output():
            value.shape = value.type = None


def publish(stage: Path, folder: Path) -> None:
    """Sync every file of ``stage`` and rename it into ``folder``.

    An earlier model of the same name goes before its weights are replaced, and the new one comes last, so that no
    moment shows a graph beside the weights of another.

    Raises:
        OutputError: a file cannot be moved into place.
    """
    files = sorted(filter(Path.is_file, stage.iterdir()), key=lambda path: path.suffix in (".onnx", ".tvm"))
    for blocked in (folder / path.name for path in files):
        if blocked.is_dir():
            raise OutputError(
                f"{blocked} is a folder, expected a file or nothing; choose another place with -o."
            )
    try:
        for path in files:
            _sync(path)
        for path in files:
            if path.suffix == ".onnx":
                _retire(folder / path.name, keep_data=path.with_name(f"{path.name}.data").exists())
        for path in files:
            path.replace(folder / path.name)
        _sync(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error


def _retire(old: Path, *, keep_data: bool) -> None:
    """Take an earlier model with external weights out of the way; its weights too, unless new ones replace them."""
    data = old.with_name(f"{old.name}.data")
    if not data.is_file():
        return
    old.unlink(missing_ok=True)
    if not keep_data:
        data.unlink()


def cannot_write(path: Path | str, error: OSError) -> OutputError:
    """The error to raise for ``path``; NumPy reports a full disk as a short write, without a number."""
    reason = error.strerror or f"no space left ({error})"
    return OutputError(f"{path} cannot be written: {reason}; make room, or choose another place with -o.")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
