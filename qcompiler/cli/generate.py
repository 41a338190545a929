"""``qcompile generate MODEL --prompt TEXT``"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from qcompiler.cli import options as cli
from qcompiler.cli.command import command
from qcompiler.cli.logs import is_quiet

LanguageModel = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", help="A language-model folder, or an .onnx file in one.", show_default=False
    ),
]
Tokenizer = Annotated[
    Path | None, typer.Option(help="A tokenizer.json or its folder. Default: the model's folder.")
]
RunThreads = Annotated[int, typer.Option(help="Threads of the session.", min=1)]


@command
def generate_command(
    model: LanguageModel,
    *,
    prompt: Annotated[
        str | None,
        typer.Option(help="The text to go on from, as it is: no chat template. Default: stdin."),
    ] = None,
    prompt_file: Annotated[Path | None, typer.Option(help="A UTF-8 file with the prompt.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Stop after so many.", min=1)] = 128,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token each time.")] = 0.0,
    top_k: Annotated[int | None, typer.Option(help="Draw from the k likeliest tokens only.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Draw from the likeliest tokens that make up this probability.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the draws. Default: 0.", min=0)] = None,
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Go on after the end of the text, to measure speed.")
    ] = False,
    tokenizer: Tokenizer = None,
    threads: RunThreads = 1,
    json: cli.Json = False,
) -> None:
    """Go on from a prompt; the text goes to stdout, tokens a second to stderr.

    Example: qcompile generate out/ --prompt "Once upon a time" --temperature 0.8 --top-p 0.95
    """
    from qcompiler.errors import OptionError
    from qcompiler.language.decoder import Decoder
    from qcompiler.language.detokenize import TextStream
    from qcompiler.language.folder import open_folder
    from qcompiler.language.generation import generate
    from qcompiler.language.sampling import Sampling
    from qcompiler.report.json import to_json
    from qcompiler.report.language import generation_facts, generation_lines

    sampling = Sampling(temperature, top_k, top_p)
    if sampling.greedy and seed is not None:
        raise OptionError("--seed has no effect on greedy decoding; add --temperature, such as 0.8.")
    folder = open_folder(model, tokenizer=tokenizer)
    given = _prompt(prompt, prompt_file)
    decoder = Decoder(folder.model, threads=threads)
    encoder = folder.encoder(purpose="to read the prompt", vocabulary=decoder.signature.vocabulary)
    ids = [*encoder.prefix, *encoder.encode(given)]
    stream, pieces = TextStream(encoder.tokenizer, ids), list[str]()

    def show(piece: str) -> None:
        pieces.append(piece)
        if not json:
            print(piece, end="", flush=True)

    found = generate(
        decoder,
        ids,
        sampling,
        max_tokens=max_tokens,
        end_of_text=() if ignore_eos else folder.end_of_text,
        context_length=folder.context_length,
        seed=seed or 0,
        show=lambda token: show(stream.add(token)),
    )
    show(stream.finish())
    facts = generation_facts(found, decoder, given, "".join(pieces), threads=threads)
    if json:
        print(to_json(facts))
        return
    print()
    if not is_quiet():
        print(*generation_lines(facts), sep="\n", file=sys.stderr)


def _prompt(prompt: str | None, file: Path | None) -> str:
    """The prompt from its option, its file, or stdin.

    Raises:
        OptionError: both were given, or neither and nobody writes to stdin.
        CalibrationError: the file cannot be read as UTF-8.
    """
    from qcompiler.errors import CalibrationError, OptionError

    if prompt is not None and file is not None:
        raise OptionError("give either --prompt or --prompt-file.")
    if prompt is not None:
        return prompt
    if file is None and sys.stdin.isatty():
        raise OptionError('no prompt; give --prompt "...", --prompt-file, or a text on stdin.')
    try:
        return sys.stdin.read() if file is None else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{file or 'stdin'} cannot be read as UTF-8 text: {error}.") from error
