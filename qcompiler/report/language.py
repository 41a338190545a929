"""``qcompile generate`` and ``qcompile eval`` on a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qcompiler.report.console import plain_table, print_table, stdout_console

if TYPE_CHECKING:
    from qcompiler.language.decoder import CacheKind, Decoder
    from qcompiler.language.generation import Generation, Stop
    from qcompiler.language.perplexity import Score

CACHES: dict[CacheKind, str] = {
    "in place": "kept in place, past and present in one buffer",
    "rebound": "handed from step to step without a copy",
    "none": "the graph has none, so every token computes the whole text again: export it with a cache",
}


@dataclass(frozen=True)
class GenerationFacts:
    """What was generated; rates are tokens a second, None where nothing was decoded after the first token."""

    model: str
    prompt: str
    text: str
    tokens: tuple[int, ...]
    stop: Stop
    prompt_tokens: int
    generated_tokens: int
    prefill_s: float
    prefill_tokens_per_s: float
    decode_s: float
    decode_tokens_per_s: float | None
    cache: CacheKind
    threads: int


@dataclass(frozen=True)
class ScoreFacts:
    """One text, or one array of ids."""

    name: str
    perplexity: float
    bits_per_byte: float | None
    tokens: int
    windows: int
    seconds: float
    tokens_per_s: float


@dataclass(frozen=True)
class EvalFacts:
    """Perplexities of one model."""

    model: str
    method: str
    threads: int
    scores: tuple[ScoreFacts, ...]


def generation_facts(
    found: Generation, decoder: Decoder, prompt: str, text: str, *, threads: int
) -> GenerationFacts:
    """The figures of a generation."""
    return GenerationFacts(
        model=str(decoder.model),
        prompt=prompt,
        text=text,
        tokens=found.tokens,
        stop=found.stop,
        prompt_tokens=found.prompt_tokens,
        generated_tokens=len(found.tokens),
        prefill_s=found.prefill_s,
        prefill_tokens_per_s=found.prefill_rate,
        decode_s=found.decode_s,
        decode_tokens_per_s=found.decode_rate,
        cache=decoder.cache,
        threads=threads,
    )


def generation_lines(facts: GenerationFacts) -> list[str]:
    """What stands below the text."""
    rate = facts.decode_tokens_per_s
    decode = "" if rate is None else f"; decode {facts.generated_tokens} tokens, {rate:.1f} tokens/s"
    threads = f"{facts.threads} thread{'s' if facts.threads > 1 else ''}"
    return [
        f"prefill {facts.prompt_tokens} tokens, {facts.prefill_tokens_per_s:.1f} tokens/s{decode} ({threads})",
        f"stopped at: {facts.stop}; cache: {CACHES[facts.cache]}",
    ]


def eval_facts(model: Path, method: str, scores: Sequence[Score], *, threads: int) -> EvalFacts:
    """The figures of an evaluation."""
    rows = [
        ScoreFacts(
            name=item.name,
            perplexity=item.perplexity,
            bits_per_byte=item.bits_per_byte,
            tokens=item.tokens,
            windows=item.windows,
            seconds=item.seconds,
            tokens_per_s=item.tokens / item.seconds,
        )
        for item in scores
    ]
    return EvalFacts(str(model), method, threads, tuple(rows))


def print_eval(facts: EvalFacts) -> None:
    """One row a text or array."""
    console = stdout_console()
    console.print(facts.model, style="bold", soft_wrap=True)
    numbers = ("perplexity", "bits/byte", "tokens", "windows", "seconds", "tokens/s")
    table = plain_table("data", *numbers, right=numbers)
    for row in facts.scores:
        table.add_row(
            row.name,
            f"{row.perplexity:.4g}" if row.perplexity >= 1000 else f"{row.perplexity:.3f}",
            "" if row.bits_per_byte is None else f"{row.bits_per_byte:.4f}",
            f"{row.tokens:,}",
            f"{row.windows:,}",
            f"{row.seconds:.1f}",
            f"{row.tokens_per_s:,.0f}",
        )
    print_table(console, table)
    console.print(f"  {facts.method}", style="dim", soft_wrap=True)
