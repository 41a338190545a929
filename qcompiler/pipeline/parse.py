"""The words of ``--passes`` and ``--target``, and recipes.

    smoothquant:alpha=0.6,int8_static:calibrator=mse:clip_mse=true
    ort-cpu:isa=avx2

A comma parts passes, a colon parts a name from its options and options from one another.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from qcompiler.errors import OptionError
from qcompiler.pipeline.options import Scalar, build
from qcompiler.pipeline.registry import pass_class, target_class
from qcompiler.pipeline.selected import Selected, split_options

if TYPE_CHECKING:
    from qcompiler.backends.base import Target
    from qcompiler.pipeline.base import Pass


class _StrictLoader(yaml.SafeLoader):
    """YAML without anything executable in which a key that is given twice is an error, not ignored."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = [key for index, key in enumerate(keys) if key in keys[:index]]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"key {twice[0]!r} is given twice")
        return super().construct_mapping(node, deep)


class Recipe(BaseModel):
    """A pipeline in a YAML file; every key is also an option of the command line.

    ``passes`` lists names, or one-entry mappings from a name to its options.  Beside these, ``include`` and ``exclude``
    list globs of the nodes that this pass is for, of those that the recipe's own leave.
    """

    model_config = ConfigDict(extra="forbid")

    passes: list[str | dict[str, dict[str, Scalar | list[str]] | None]]
    target: str | None = None
    include: list[str] = []
    exclude: list[str] = []


def parse_passes(text: str) -> list[Pass]:
    """Make the passes that a ``--passes`` string names.

    Raises:
        OptionError: an empty list, an unknown pass or option, an impossible value, an option given twice.
    """
    words = [word.strip() for word in text.split(",")]
    if not any(words):
        raise OptionError("no pass is named; for example --passes int8_dynamic (qcompile passes lists them).")
    return [make_pass(*_split(word)) for word in words]


def make_pass(name: str, options: Mapping[str, Scalar]) -> Pass:
    """Make one pass from its name and the values of its options."""
    return build(pass_class(name), options, owner=f"pass {name}")


def parse_target(text: str) -> Target:
    """Make the target that a ``--target`` string names."""
    name, options = _split(text)
    return build(target_class(name), options, owner=f"target {name}")


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe.

    Raises:
        OptionError: not readable, not YAML, or an unknown key; the message names it.
    """
    try:
        content: Any = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
        return Recipe.model_validate(content)
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"recipe {path} cannot be read: {error}.") from error
    except yaml.YAMLError as error:
        raise OptionError(f"recipe {path} is not YAML: {str(error).splitlines()[0]}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        known = ", ".join(Recipe.model_fields)
        raise OptionError(f"recipe {path}: {where}: {first['msg']}. Keys are {known}.") from error


def recipe_passes(recipe: Recipe) -> list[Selected]:
    """Make the passes of a recipe, each with the nodes that it is for."""
    made: list[Selected] = []
    for entry in recipe.passes:
        if isinstance(entry, str):
            made.extend(map(Selected, parse_passes(entry)))
        else:
            made.extend(_selected(name, options or {}) for name, options in entry.items())
    if not made:
        raise OptionError("the recipe names no pass.")
    return made


def _selected(name: str, given: Mapping[str, Scalar | list[str]]) -> Selected:
    options, globs = split_options(given)
    return Selected(make_pass(name, options), globs.get("include", ()), globs.get("exclude", ()))


def _split(word: str) -> tuple[str, dict[str, Scalar]]:
    name, *settings = word.split(":")
    options: dict[str, Scalar] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key or not value:
            raise OptionError(f"{word!r}: {setting!r} is not of the form option=value.")
        if key in options:
            raise OptionError(f"{word!r}: option {key!r} is given twice.")
        options[key] = value
    return name, options
