"""Searches of large models: what choices cost is estimated, and only what is likely to be published is compiled.

Measuring a choice means solving every weight for it and running the model once for every weight.  Of a model of a
billion parameters that takes hours.  Here

- bytes come from a small model of one group of each kind (``probe``),
- energies of errors from a sample of columns (``columns``),
- the loss that an energy makes from noise of two strengths in a few groups of each role (``noise``); between them and
  in the groups between it follows a line in logarithms,
- and what uniform models lose beyond the sum of their groups from three models with noise in every group.

Activations stay in float, and every weight is solved once: in the model that is published, segment by segment and
towards the float model's output (gptaq).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qcompiler.auto.bounds import Settled
from qcompiler.auto.builds import Builds
from qcompiler.auto.facts import Bounds, Estimates, Problem, Table, Totals
from qcompiler.auto.losses.columns import find_energies
from qcompiler.auto.losses.noise import NoiseLosses
from qcompiler.auto.losses.probe import probed_sizes
from qcompiler.auto.losses.yardstick import Yardstick
from qcompiler.auto.problem.choices import pass_of
from qcompiler.auto.problem.roles import find_roles
from qcompiler.auto.tables import refuse_impossible
from qcompiler.auto.variants import Variant
from qcompiler.budget import refuse_over_budget, within
from qcompiler.data.feeds import Feed
from qcompiler.errors import OptionError
from qcompiler.request import CompileOptions

WORK = 2e9
"""Parameters times choices from which on a search estimates: half an hour of solving, about."""
CALIBRATION_ROWS = 4096
"""Tokens of calibration data from which on no more is looked at."""
VARIANT = Variant(solver="gptaq")
"""How the model that is published is solved: of all ways the one that loses least most often."""


def is_large(problem: Problem, bounds: Bounds, asked: bool | None = None) -> bool:
    """Whether a search estimates.

    Args:
        problem: what is to be decided.
        bounds: a search that counts time measures it.
        asked: by the user; None: by the work.

    Raises:
        OptionError: estimates are asked for where they cannot be had.
    """
    timed = (
        bounds.prefer == "speed" or bounds.max_latency_ms is not None or bounds.max_latency_ratio is not None
    )
    stored = [choice for choice in problem.choices if choice.weight_only and choice.words]
    reason = "time is bounded or preferred, and estimates say nothing of it" if timed else ""
    reason = reason or ("" if stored else "no choice stores weights alone in fewer bits")
    if asked and reason:
        raise OptionError(f"--estimate: {reason}; leave it out.")
    work = sum(group.parameters for group in problem.groups) * len(stored)
    return not reason and (work > WORK if asked is None else asked)


def narrowed(problem: Problem) -> tuple[Problem, str]:
    """A problem without choices that quantize activations, and a sentence about it."""
    kept = [at for at, choice in enumerate(problem.choices) if choice.weight_only or not choice.words]
    count = sum(group.parameters for group in problem.groups)
    found = replace(
        problem,
        choices=tuple(problem.choices[at] for at in kept),
        allowed=problem.allowed[:, kept],
        stored_bits=problem.stored_bits[:, kept],
        shared=(),
        estimated=True,
    )
    return found, (
        f"{count / 1e6:.0f} million parameters: losses are estimated from samples, activations stay in float, and one "
        "way of solving is taken (--no-estimate measures instead)."
    )


def estimate(bench: Builds, yardstick: Yardstick, settled: Settled, given: CompileOptions) -> Estimates:
    """Sizes and losses of all choices; nothing is said of time.

    Args:
        bench: the search's.
        yardstick: has learnt from the float model.
        settled: the bounds.
        given: how the result will be compiled: within how much memory.

    Raises:
        UnsupportedError: the bounds on size and bits exclude each other, or the compile would take more memory than is
            allowed; known before losses are estimated.
    """
    problem = bench.problem
    verify = "numerics" if given.verify == "speed" else given.verify
    passes = [pass_of(VARIANT.words(choice.words)) for choice in problem.choices if choice.words]
    refuse_over_budget(bench.reference, passes, verify, given.max_ram_bytes)
    base_bytes, sizes = probed_sizes(problem, bench)
    still = np.where(problem.allowed, 0.0, np.nan)
    found = Estimates(sizes, still, still, Totals(base_bytes, 0.0, 0.0))
    refuse_impossible(problem, found, settled.limits(found.base))
    with within(given.max_ram_bytes):
        return replace(found, loss=estimated_losses(problem, bench, yardstick))


def estimated_losses(problem: Problem, bench: Builds, yardstick: Yardstick) -> Table:
    """``[groups, choices]`` losses; 0 for float, NaN where a choice is not allowed."""
    roles = find_roles(problem, bench.reference)
    folder = bench.folder / "estimates"
    folder.mkdir(exist_ok=True)
    energies = find_energies(problem, bench, roles, first_rows(bench), folder)
    return NoiseLosses(problem, bench, yardstick, roles, energies).table()


def first_rows(bench: Builds, most: int = CALIBRATION_ROWS) -> list[Feed]:
    """The first calibration feeds, until they have ``most`` rows: elements of their largest input of integers."""
    source = bench.samples.calibration or bench.samples.held_out
    kept, seen = list[Feed](), 0
    for feed in source:
        kept.append(feed)
        seen += max(
            (np.size(array) for array in feed.values() if np.asarray(array).dtype.kind in "iu"), default=1
        )
        if seen >= most:
            break
    return kept
