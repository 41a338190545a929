"""How a quantized model was made: the passes, and the command that makes it again with something changed."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qcompiler.diagnosis.facts import ActivationReport, NodeFacts

LOW_BIT = ("int8", "int4", "int3", "int2", "nf4", "fp4")

Words = tuple[tuple[str, Mapping[str, str]], ...]


@dataclass(frozen=True)
class Recipe:
    """How the quantized model was made, or how it could be made with this compiler.

    Attributes:
        passes: names with options that are not the default.
        known: whether a manifest says so; else it is deduced from the formats found.
        file: the recipe, where passes are for nodes of their own, which ``--passes`` cannot say; else "".
        others: words of the command beside the passes, which a recipe has in it: target, nodes.
    """

    passes: Words
    known: bool
    file: str = ""
    others: tuple[str, ...] = ()

    def word(self) -> str:
        """As ``--passes`` takes it."""
        return ",".join(
            ":".join([name, *(f"{key}={value}" for key, value in options.items())])
            for name, options in self.passes
        )

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.passes]

    def with_option(self, name: str, key: str, value: str) -> Recipe:
        """The same with one option of one pass."""
        passes = tuple((n, {**o, key: value}) if n == name else (n, o) for n, o in self.passes)
        return replace(self, passes=passes)

    def with_first(self, name: str) -> Recipe:
        """The same with another pass before the rest."""
        return self if name in self.names else replace(self, passes=((name, {}), *self.passes))


@dataclass(frozen=True)
class Command:
    """``qcompile`` on the float model, with the data it needs, and how that is read."""

    model: str
    data: str
    reading: tuple[str, ...] = ()

    def line(self, recipe: Recipe, exclude: Sequence[str] = ()) -> str:
        """A shell command."""
        pipeline = ["--recipe", recipe.file] if recipe.file else ["--passes", recipe.word(), *recipe.others]
        words = ["qcompile", self.model, *pipeline, "--calib", self.data, *self.reading]
        for name in exclude:
            words += ["--exclude", name]
        return shlex.join(words)


def recipe_of(
    quantized: Path | None, nodes: Sequence[NodeFacts], activations: Sequence[ActivationReport]
) -> Recipe:
    """From the manifest beside the file, or deduced from what is in it."""
    known = _from_manifest(quantized) if quantized is not None else None
    if known is not None:
        return known
    if any(item.facts.clip_low is not None for item in activations):
        return Recipe((("int8_static", {}),), False)
    if activations:
        return Recipe((("int8_dynamic", {}),), False)
    kinds = Counter(item.kind for item in nodes if " in blocks of " in item.kind)
    if not kinds:
        return Recipe((("int8_dynamic", {}),), False)
    name, _, block = kinds.most_common(1)[0][0].partition(" in blocks of ")
    name = name.removeprefix("u") if name.removeprefix("u") in LOW_BIT else "int4"
    return Recipe(((name, {"group": block} if block.isdigit() and 16 <= int(block) <= 256 else {}),), False)


def _from_manifest(quantized: Path) -> Recipe | None:
    from qcompiler.errors import OptionError
    from qcompiler.pipeline.options import shortest
    from qcompiler.pipeline.registry import pass_class

    stem = quantized.name.removesuffix(".onnx")
    found, own = [], False
    try:
        manifest = json.loads(quantized.with_name(f"{stem}.manifest.json").read_text("utf-8"))
        for item in manifest["pipeline"]:
            own = own or bool(item.get("include") or item.get("exclude"))
            name = str(item["name"])
            options = shortest(pass_class(name), item["options"], owner=name)
            found.append((name, {key: _word(value) for key, value in options.items()}))
        others = _others(manifest)
    except (OSError, ValueError, KeyError, TypeError, OptionError):
        return None
    beside = quantized.with_name(f"{stem}.recipe.yaml")
    return Recipe(tuple(found), True, str(beside if beside.is_file() else beside.name) if own else "", others)


def _others(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """The target with its options, and the nodes of the request."""
    from qcompiler.pipeline.options import shortest
    from qcompiler.pipeline.registry import target_class

    words: list[str] = []
    if target := manifest.get("target"):
        name = str(target["name"])
        options = shortest(target_class(name), target["options"], owner=name)
        spelled = ":".join([name, *(f"{key}={_word(value)}" for key, value in options.items())])
        words += ["--target", spelled]
    for flag in ("include", "exclude"):
        words += [word for glob in manifest.get(flag, ()) for word in (f"--{flag}", str(glob))]
    return tuple(words)


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
