"""Documents hold no number that JSON cannot say."""

import json
import math

from pcsr_cli.images.files import finite


def test_numbers_that_are_not_finite_are_null_however_deep() -> None:
    told = {"psnr": math.inf, "rows": [{"cuts": (0.5, math.nan)}, -math.inf], "name": "inf", "count": 3}
    said = finite(told)
    assert said == {"psnr": None, "rows": [{"cuts": [0.5, None]}, None], "name": "inf", "count": 3}
    assert json.loads(json.dumps(said, allow_nan=False)) == said
