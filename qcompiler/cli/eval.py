"""``qcompile eval MODEL --text FILE``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qcompiler.cli import options as cli
from qcompiler.cli.command import command
from qcompiler.cli.generate import LanguageModel, RunThreads, Tokenizer

if TYPE_CHECKING:
    from qcompiler.language.decoder import Decoder
    from qcompiler.language.folder import LanguageFolder
    from qcompiler.language.windows import Task

DEFAULT_LENGTH = 1024


@command
def eval_command(
    model: LanguageModel,
    *,
    text: Annotated[Path | None, typer.Option(help="A UTF-8 text file.")] = None,
    ids: Annotated[
        Path | None,
        typer.Option(
            help=r"An .npz of token ids: input_ids \[n, T], lengths \[n] optional; or arrays \[n, T]."
        ),
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(help="Tokens a window of --text. Default: 1024, or the model's context.", min=2),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(help="Tokens from one window of --text to the next. Default: half the length.", min=1),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(help="Windows a run. Default: as many as 256 MB of logits hold, up to 8.", min=1),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many windows of each.", min=1)] = None,
    tokenizer: Tokenizer = None,
    threads: RunThreads = 1,
    json: cli.Json = False,
) -> None:
    """Measure a language model's perplexity on a text, or on token ids.

    Example: qcompile eval out/ --text heldout.txt --length 1024 --stride 512
    """
    from qcompiler.cli.progress import progress_display
    from qcompiler.language.decoder import Decoder
    from qcompiler.language.folder import open_folder
    from qcompiler.language.perplexity import check_ids, score
    from qcompiler.report.json import to_json
    from qcompiler.report.language import eval_facts, print_eval

    _check(text, ids, tokenizer, length=length, stride=stride)
    folder = open_folder(model, tokenizer=tokenizer)
    decoder = Decoder(folder.model, threads=threads)
    tasks, method = (
        _text_tasks(folder, decoder, text, length, stride, limit) if text else _ids_tasks(ids, limit)
    )
    for task in tasks:
        check_ids(task, decoder.signature.vocabulary, folder.context_length)
    with progress_display("evaluating") as progress:
        scores = [score(decoder, task, batch=batch, progress=progress) for task in tasks]
    facts = eval_facts(decoder.model, method, scores, threads=threads)
    if json:
        print(to_json(facts))
    else:
        print_eval(facts)


def _check(
    text: Path | None, ids: Path | None, tokenizer: Path | None, *, length: int | None, stride: int | None
) -> None:
    """Refuse what cannot be meant, before a model is loaded."""
    from qcompiler.errors import CalibrationError, OptionError

    if (text is None) == (ids is None):
        raise OptionError("give either --text with a text file, or --ids with an .npz of token ids.")
    if ids is not None and (length, stride, tokenizer) != (None, None, None):
        raise OptionError(
            "--length, --stride and --tokenizer are for --text; rows of --ids are taken as they are."
        )
    path = text or ids
    if path is not None and not path.is_file():
        raise CalibrationError(f"{path} is no file; give a text file with --text, or an .npz with --ids.")


def _text_tasks(
    folder: LanguageFolder,
    decoder: Decoder,
    text: Path,
    length: int | None,
    stride: int | None,
    limit: int | None,
) -> tuple[list[Task], str]:
    from qcompiler.errors import OptionError
    from qcompiler.language.windows import text_task

    longest = decoder.signature.length or folder.context_length
    if length is not None and longest is not None and length > longest:
        raise OptionError(
            f"--length {length} is more than the model's context of {longest}; give at most that."
        )
    size = length or min(DEFAULT_LENGTH, longest or DEFAULT_LENGTH)
    step = stride or max(1, size // 2)
    encoder = folder.encoder(purpose=f"to read the text {text}", vocabulary=decoder.signature.vocabulary)
    task = text_task(text, encoder, length=size, stride=step, limit=limit)
    return [
        task
    ], f"windows of {size} tokens, one every {step}; each token counts once, with what precedes it"


def _ids_tasks(ids: Path | None, limit: int | None) -> tuple[list[Task], str]:
    from qcompiler.language.windows import ids_tasks

    assert ids is not None  # checked before
    return ids_tasks(ids, limit=limit), "each row from its beginning; all its tokens but the first count"
