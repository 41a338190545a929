"""What a compile remembers of what its passes have solved, and for how long."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from qcompiler.package.manifest import package_versions
from qcompiler.package.scratch import scratch_folder
from qcompiler.pipeline.journal import FolderJournal, NoJournal
from qcompiler.pipeline.options import spelled
from qcompiler.pipeline.run import Pipeline, is_sequential
from qcompiler.pipeline.selected import key_of
from qcompiler.request import CompileOptions, Request


@contextlib.contextmanager
def remembering(
    pipeline: Pipeline, output: Path, options: CompileOptions, request: Request
) -> Iterator[None]:
    """Give ``pipeline`` the journal that it needs.

    A sequential pass takes long: what it solves is kept beside ``output`` until the compile succeeds, for a run that
    resumes.  Other passes are only asked again where nodes may be put back to float; else nothing is kept.

    Raises:
        OutputError: the folder cannot be made.
    """
    if is_sequential(pipeline.passes):
        from qcompiler.sequential.work import work_folder

        with work_folder(output, _key(pipeline, request)) as folder:
            pipeline.journal, pipeline.work = FolderJournal(folder), folder
            yield
    elif options.verify == "speed":
        with scratch_folder(output.parent) as scratch:
            pipeline.journal = FolderJournal(scratch)
            yield
    else:
        pipeline.journal = NoJournal()
        yield


def _key(pipeline: Pipeline, request: Request) -> dict[str, object]:
    from qcompiler.sequential.work import feeds_digest, model_digest

    return {
        "model": model_digest(pipeline.reference),
        "recipe": [[item.name, spelled(item)] for item in pipeline.passes],
        "target": [request.target.name, spelled(request.target)],
        "choice of nodes": sorted(pipeline.selected),
        **key_of(request.steps),
        "data": feeds_digest(pipeline.feeds),
        "version": package_versions(),
    }
