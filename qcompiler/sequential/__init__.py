"""Sequential mode: one segment of the graph after another is calibrated with what the quantized ones before it give."""

SEGMENTS = "segments"
"""The label under which progress over them is told: it stays while other labels come and go."""

SEARCH = "search"
"""Label of the progress of a whole search."""
