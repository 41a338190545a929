"""Facts as one JSON document."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any


def to_json(facts: object) -> str:
    """A dataclass, or a list of them, as JSON; NaN and infinity, which JSON does not have, become null."""
    return json.dumps(plain(facts), indent=1, allow_nan=False)


def plain(value: Any) -> Any:
    """Dataclasses as dictionaries, tuples as lists, NaN and infinity as None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
