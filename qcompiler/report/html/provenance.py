"""What makes a result again: its command, its recipe."""

from __future__ import annotations

import glob
import shlex

import yaml

from qcompiler.package.manifest import ConfiguredRecord, Manifest
from qcompiler.pipeline.registry import pass_class, target_class
from qcompiler.report.spelling import needed, spelled


def spelled_pipeline(manifest: Manifest) -> str:
    """As ``--passes`` takes it, without options that are the default."""
    return ",".join(spelled(item, pass_class) for item in manifest.pipeline)


def spelled_target(manifest: Manifest) -> str:
    """As ``--target`` takes it."""
    return spelled(manifest.target, target_class)


def has_own_nodes(manifest: Manifest) -> bool:
    """Whether passes are for nodes of their own, which only a recipe can say."""
    return any(item.include or item.exclude for item in manifest.pipeline)


def command_of(manifest: Manifest, model: str, calibration: str | None, recipe: str = "recipe.yaml") -> str:
    """The command that makes the same result, as far as the manifest tells.

    Args:
        manifest: of the result.
        model: path of the float model.
        calibration: path of the data; None where it is not known: random numbers stand in its place.
        recipe: path of the recipe, where passes are for nodes of their own.
    """
    own = has_own_nodes(manifest)
    words = ["qcompile", model]
    words += ["--recipe", recipe] if own else ["--passes", spelled_pipeline(manifest)]
    words += ["--calib", calibration or "random"] if manifest.calibration is not None else []
    if not own:
        words += ["--target", spelled_target(manifest)]
        words += [word for name in manifest.include for word in ("--include", name)]
        words += [word for name in manifest.exclude for word in ("--exclude", name)]
    return shlex.join(words)


def recipe_of(manifest: Manifest) -> str:
    """The pipeline as YAML; nodes that were put back to float are excluded by name."""
    recipe: dict[str, object] = {"passes": [_entry(item) for item in manifest.pipeline]}
    recipe["target"] = spelled_target(manifest)
    if manifest.include:
        recipe["include"] = list(manifest.include)
    excluded = [*manifest.exclude, *map(glob.escape, manifest.reverted)]
    if excluded:
        recipe["exclude"] = excluded
    return yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=100)


def _entry(item: ConfiguredRecord) -> str | dict[str, dict[str, object]]:
    settings: dict[str, object] = dict(needed(item, pass_class))
    for key, globs in (("include", item.include), ("exclude", item.exclude)):
        if globs:
            settings[key] = list(globs)
    return {item.name: settings} if settings else item.name
