"""What JSON can say: its numbers are finite."""

import math
from typing import Any


def finite(value: Any) -> Any:
    """A value made of plain ones, None in the place of every number that is not finite, however deep it lies."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: finite(each) for key, each in value.items()}
        case list() | tuple():
            return [finite(each) for each in value]
    return value
