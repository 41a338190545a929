"""A folder beside the output in which a long compile keeps what it has solved, so that a killed one can go on.

It belongs to one model, pipeline and data: their digest is in it.  Anything else found there is discarded.  It is
removed when the compile succeeds; one that failed leaves it, if anything was solved.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from qcompiler.data.feeds import Feed
from qcompiler.data.hashing import hash_records
from qcompiler.package.durable import write_synced
from qcompiler.package.write import cannot_write
from qcompiler.sequential.lock import LOCK_FILE, hold

logger = logging.getLogger(__name__)

Key = Mapping[str, object]
"""What decides every byte that is kept, by words that tell a user what has changed."""

_KEY_FILE = "key.json"
FLOAT_FOLDER = "float"
"""Where a search writes the float model: nothing that was solved."""


@contextlib.contextmanager
def work_folder(output: Path, key: Key) -> Iterator[Path]:
    """``.{stem}.work`` beside ``output``, with what an earlier run of the same ``key`` left in it.

    Raises:
        OutputError: it cannot be made, or another compile to the same place still runs.
    """
    folder = output.with_name(f".{output.stem}.work")
    written = json.dumps(key, indent=1, sort_keys=True, default=str).encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = hold(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    with held, _kept_unless_done(folder):
        try:
            _discard_other(folder, json.loads(written))
            write_synced(folder / _KEY_FILE, written)
        except OSError as error:
            raise cannot_write(folder, error) from error
        yield folder


@contextlib.contextmanager
def _kept_unless_done(folder: Path) -> Iterator[None]:
    """Remove the folder, unless the compile failed after something was solved."""
    try:
        yield
    except BaseException:
        if any(_holds_work(path) for path in folder.iterdir()):
            _say(folder, "what was solved is kept in %s: the same compile goes on from there", folder)
            raise
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _say(folder: Path, message: str, *details: object) -> None:
    """A hint for the user, unless the folder lies within that of a search: what is kept is for that one to say."""
    within = any(each.suffix == ".work" and (each / LOCK_FILE).exists() for each in folder.parents)
    logger.log(logging.INFO if within else logging.WARNING, message, *details)


def _holds_work(path: Path) -> bool:
    if path.name in (_KEY_FILE, LOCK_FILE, FLOAT_FOLDER):
        return False
    return not path.is_dir() or any(path.iterdir())


def model_digest(model: ir.Model) -> str:
    """SHA-256 over nodes, functions and the bytes of every constant; one constant in memory at a time."""
    digest = hashlib.sha256()
    for part in (*model.graph, *model.functions.values()):
        digest.update(ir.to_proto(part).SerializeToString(deterministic=True))
    for value in (*model.graph.inputs, *model.graph.outputs):
        digest.update(f"{value.name}\0{value.type}\0{value.shape}\n".encode())
    for graph in model.graphs():
        for name, value in graph.initializers.items():
            tensor = value.const_value
            if tensor is not None:
                digest.update(f"{name}\0{tensor.dtype.name}\0{tensor.shape}\n".encode())
                digest.update(_bytes_of(tensor))
    return digest.hexdigest()


def feeds_digest(feeds: Iterable[Feed] | None) -> str | None:
    """SHA-256 over every array of every feed: what options make of the data counts, not where it lies."""
    return None if feeds is None else hash_records(feeds)()


def _bytes_of(tensor: ir.TensorProtocol) -> bytes | memoryview:
    array = tensor.numpy()
    if array.dtype.isbuiltin != 1 or array.dtype == object:
        return tensor.tobytes()
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _discard_other(folder: Path, key: Key) -> None:
    """Remove what belongs to another compile, and say which part of it is another."""
    kept = [path for path in folder.iterdir() if path.name != LOCK_FILE]
    if not kept:
        return
    try:
        found = json.loads((folder / _KEY_FILE).read_text())
    except (OSError, ValueError):
        found = {}
    if found == key:
        _say(folder, "%s holds part of this compile, which was interrupted: going on from there", folder)
        return
    other = [name for name in key if found.get(name) != key[name]] if isinstance(found, dict) else []
    logger.warning(
        "%s holds part of another compile, which was interrupted (another %s): discarded",
        folder,
        ", ".join(other),
    )
    for path in kept:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
