"""What to do about it, as commands that can be pasted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qcompiler.diagnosis.blame import GOOD_DB
from qcompiler.diagnosis.facts import ActivationReport, Culprit, Group, NodeFacts, Remedy
from qcompiler.diagnosis.recipe import LOW_BIT, Command, Recipe

_GAIN_DB = 2.0
_WORTH_DB = 15.0
_ROWS = 3.0
_FUNCTIONS = (
    "Relu",
    "Gelu",
    "Erf",
    "Sigmoid",
    "Tanh",
    "Clip",
    "LeakyRelu",
    "Mul",
    "HardSwish",
    "Elu",
    "FastGelu",
)
_K_QUANTS = ("q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "q8_0")


def remedies(
    command: Command,
    recipe: Recipe,
    found: Sequence[Culprit],
    nodes: Sequence[NodeFacts],
    activations: Sequence[ActivationReport],
    outputs_db: tuple[float, float | None],
    spread: Group | None = None,
) -> tuple[Remedy, ...]:
    """The most useful first; none where nothing is to be gained.

    Args:
        command: the compile to change.
        recipe: its passes.
        found: the culprits.
        nodes: all quantized nodes.
        activations: all quantized activations.
        outputs_db: of the worst output as it is, and with all culprits in float.
        spread: what costs most where there is no culprit.
    """
    guilty = {item.name for item in found}
    coarse = [item for item in nodes if spread or (item.name in guilty and item.fault is None)]
    if recipe.file:  # options of single passes cannot be typed
        coarse, activations = [], []
    lines = [
        *_new_ranges(command, recipe, [item for item in activations if item.name in guilty]),
        *_new_weights(command, recipe, [item for item in found if item.kind == "weight" and item.fault]),
        *_finer(command, recipe, coarse),
        *_smoothed(command, recipe, [item for item in activations if _matters(item, outputs_db[0])]),
        *([] if recipe.file else _corrected(command, recipe, nodes, spread)),
        *_excluded(command, recipe, found, outputs_db),
        *_group_excluded(command, recipe, spread, outputs_db[0]),
    ]
    return tuple({item.command: item for item in reversed(lines)}.values())[::-1]


def _new_ranges(command: Command, recipe: Recipe, wrong: Sequence[ActivationReport]) -> list[Remedy]:
    faulty = [item for item in wrong if item.facts.fault is not None]
    if not faulty:
        return []
    masked = [item for item in faulty if item.facts.masked_share]
    text = f"choose the range of {_listed([item.name for item in faulty])} anew"
    if masked:
        text = f"leave masked scores in float ({_listed([item.name for item in masked])}); int8_static does"
    static = recipe if "int8_static" in recipe.names else Recipe((("int8_static", {}),), False)
    best = max(faulty, key=lambda item: item.facts.best_db - item.facts.minmax_db).facts
    calibrator = "mse" if best.best_db > best.minmax_db + _GAIN_DB else "minmax"
    if not masked:
        reached = min(max(item.facts.best_db, item.facts.minmax_db) for item in faulty)
        text += f": {reached:.0f} dB can be reached on this data"
        static = static.with_option("int8_static", "calibrator", calibrator)
    return [Remedy(text, command.line(static))]


def _new_weights(command: Command, recipe: Recipe, wrong: Sequence[Culprit]) -> list[Remedy]:
    if not wrong:
        return []
    text = f"quantize {_listed([item.name for item in wrong])} again: what the file stores is wrong"
    return [Remedy(text, command.line(recipe))]


def _matters(item: ActivationReport, outputs_db: float) -> bool:
    """Whether a sound activation makes a share of the noise that is worth a pass."""
    if item.facts.fault is not None or item.effect is None or outputs_db >= GOOD_DB:
        return False
    return item.effect.only < outputs_db + _WORTH_DB


def _smoothed(command: Command, recipe: Recipe, costly: Sequence[ActivationReport]) -> list[Remedy]:
    found = []
    behind = [item for item in costly if item.facts.outlier_channels and item.maker_op in _FUNCTIONS]
    others = [item for item in costly if item.facts.outlier_channels and item.maker_op not in _FUNCTIONS]
    if behind and "outlier_channels" not in recipe.names:
        text = f"compute the few large channels of {_outliers(behind)} in float"
        found.append(Remedy(text, command.line(recipe.with_first("outlier_channels"))))
    if others:
        text = f"move outliers of {_outliers(others)} into the weights"
        smoothed = recipe.with_first("smoothquant")
        if "smoothquant" in recipe.names:
            smoothed = recipe.with_option("smoothquant", "alpha", "0.8")
        found.append(Remedy(text, command.line(smoothed)))
    rows = [item for item in costly if item.facts.clip_low is None and item.facts.row_ratio > _ROWS]
    if rows and "int8_dynamic" in recipe.names:
        text = (
            f"a scale for each token: tokens of {_listed([item.name for item in rows])} differ in magnitude"
        )
        found.append(Remedy(text, command.line(recipe.with_option("int8_dynamic", "granularity", "token"))))
    wide = [item for item in costly if item.facts.best_db > item.facts.sqnr_db + _GAIN_DB]
    if wide and "int8_static" in recipe.names:
        text = f"ranges of least squared error for {_listed([item.name for item in wide])}"
        found.append(Remedy(text, command.line(recipe.with_option("int8_static", "calibrator", "mse"))))
    return found


def _outliers(items: Sequence[ActivationReport]) -> str:
    worst = max(items, key=lambda item: item.facts.outlier_ratio)
    return f"{_listed([item.name for item in items])} (up to {worst.facts.outlier_ratio:.0f}x the median channel)"


def _finer(command: Command, recipe: Recipe, coarse: Sequence[NodeFacts]) -> list[Remedy]:
    found = []
    per_tensor = [item.name for item in coarse if item.kind.endswith("per tensor")]
    eight = next((name for name in recipe.names if name in ("int8_static", "int8_dynamic")), "")
    if per_tensor and eight:
        text = f"{_listed(per_tensor)}: one weight scale per output channel instead of one per tensor"
        found.append(Remedy(text, command.line(recipe.with_option(eight, "per_channel", "true"))))
    low = next((name for name in recipe.names if name in (*LOW_BIT, *_K_QUANTS)), "")
    if not low or not coarse:
        return found
    group = int(dict(recipe.passes)[low].get("group", "32")) if low in LOW_BIT else 32
    if group > 32 or group == 0:
        text = f"smaller groups: a scale for 32 weights instead of {group or 'a column'}"
        found.append(Remedy(text, command.line(recipe.with_option(low, "group", "32"))))
    if "gptq" not in dict(recipe.passes)[low].get("solver", ""):
        text = "codes by output error instead of rounding to nearest, at the same size"
        found.append(Remedy(text, command.line(recipe.with_option(low, "solver", "gptq"))))
    return found


def _corrected(
    command: Command, recipe: Recipe, nodes: Sequence[NodeFacts], spread: Group | None
) -> list[Remedy]:
    """Biases, where many convolutions each lose a little."""
    convolutions = sum(item.op_type == "Conv" for item in nodes)
    if spread is None or 2 * convolutions < len(nodes) or "bias_correction" in recipe.names:
        return []
    text = "take back the mean error that rounded weights add to every convolution"
    longer = replace(recipe, passes=(*recipe.passes, ("bias_correction", {})))
    return [Remedy(text, command.line(longer))]


def _group_excluded(command: Command, recipe: Recipe, spread: Group | None, before: float) -> list[Remedy]:
    if spread is None or spread.outputs_db < before + _GAIN_DB:
        return []
    text = f"leave the {len(spread.nodes)} nodes in float that cost most"
    measured = f" (outputs {before:.1f} -> {spread.outputs_db:.1f} dB, measured)"
    return [Remedy(text + measured, command.line(recipe, spread.nodes))]


def _excluded(
    command: Command, recipe: Recipe, found: Sequence[Culprit], outputs_db: tuple[float, float | None]
) -> list[Remedy]:
    names = list(dict.fromkeys(name for item in found for name in item.nodes))
    if not names:
        return []
    before, after = outputs_db
    measured = f" (outputs {before:.1f} -> {after:.1f} dB, measured)" if after is not None else ""
    text = f"leave {_listed(names)} in float{measured}"
    if not recipe.known:
        text += "; nodes_to_exclude in onnxruntime.quantization"
    return [Remedy(text, command.line(recipe, names))]


def _listed(names: Sequence[str]) -> str:
    few = list(dict.fromkeys(names))
    return ", ".join(few[:3]) + (f" and {len(few) - 3} more" if len(few) > 3 else "")
