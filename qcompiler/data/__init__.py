"""Feeds for a model, from whatever the user has: files, folders, pictures, text, datasets, iterables."""

from qcompiler.data.feeds import Feed, FeedSource, InputSpec, input_specs
from qcompiler.data.open import open_data, open_each
from qcompiler.data.options import DataOptions
from qcompiler.data.split import Split, hold_out

__all__ = [
    "DataOptions",
    "Feed",
    "FeedSource",
    "InputSpec",
    "Split",
    "hold_out",
    "input_specs",
    "open_data",
    "open_each",
]
