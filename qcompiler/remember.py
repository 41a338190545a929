"""What a compile remembers of what its passes have solved, and for how long."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from qcompiler.calibration.requests import Request as Statistic
from qcompiler.calibration.statistics import Answer
from qcompiler.package.manifest import package_versions
from qcompiler.package.scratch import scratch_folder
from qcompiler.pipeline.journal import FolderJournal, Journal, NoJournal
from qcompiler.pipeline.options import spelled
from qcompiler.pipeline.run import Pipeline, is_sequential
from qcompiler.pipeline.selected import key_of
from qcompiler.request import CompileOptions, Request


@dataclass(frozen=True)
class Solved:
    """What pipelines over one model and data have solved.

    Attributes:
        journal: it.
        owners: names under which the journal keeps what each pass of a pipeline solved.
        seen: statistics of the float model.
    """

    journal: Journal
    owners: Sequence[str]
    seen: dict[Statistic, Answer]


@contextlib.contextmanager
def remembering(
    pipeline: Pipeline,
    output: Path,
    options: CompileOptions,
    request: Request,
    solved: Solved | None = None,
) -> Iterator[None]:
    """Give ``pipeline`` the journal that it needs.

    A sequential pass takes long: what it solves is kept beside ``output`` until the compile succeeds, for a run that
    resumes.  Other passes share what is ``solved``; else they are only asked again where nodes may be put back to
    float, and otherwise nothing is kept.

    Raises:
        OutputError: the folder cannot be made.
    """
    if is_sequential(pipeline.passes):
        from qcompiler.sequential.work import work_folder

        with work_folder(output, _key(pipeline, request)) as folder:
            pipeline.journal, pipeline.work = FolderJournal(folder), folder
            yield
    elif solved is not None:
        pipeline.journal, pipeline.owners, pipeline.seen = solved.journal, solved.owners, solved.seen
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
