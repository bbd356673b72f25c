"""Hypothesis strategies shared by several test files."""

from hypothesis import settings
from hypothesis import strategies as st

from pcsr_cli.engine.rules import Adaptive, Routing, Threshold, Tradeoff

lengths = st.integers(1, 40)
"""Side lengths of a small LR image, in pixels."""

scales = st.sampled_from([1.0, 1.5, 2.0, 3.0, 4.0]) | st.floats(1, 4.5, allow_nan=False)
"""Common scales, scales with ties between nearest pixels, and real scales."""

tradeoffs = st.floats(-3, 3, allow_nan=False).map(Tradeoff)

routings: st.SearchStrategy[Routing] = st.one_of(
    st.floats(0, 1, allow_nan=False).map(Threshold), tradeoffs, st.just(Adaptive())
)
"""Routings for two branches."""

routings_of_many: st.SearchStrategy[Routing] = tradeoffs | st.just(Adaptive())
"""Routings for more than two branches."""


def examples(share: float) -> settings:
    """Multiply the number of examples of the active profile by ``share``, for slow tests."""
    assert settings.default is not None
    return settings(max_examples=round(share * settings.default.max_examples))
