"""What hypothesis draws in more than one test file."""

from hypothesis import settings
from hypothesis import strategies as st

from pcsr_cli.engine.routing import Adaptive, Routing, Threshold, Tradeoff

lengths = st.integers(1, 40)
"""Sides of a small LR picture, in pixels."""

scales = st.sampled_from([1.0, 1.5, 2.0, 3.0, 4.0]) | st.floats(1, 4.5, allow_nan=False)
"""The usual enlargements, those with ties between nearest pixels, and any real one."""

tradeoffs = st.floats(-3, 3, allow_nan=False).map(Tradeoff)

routings: st.SearchStrategy[Routing] = st.one_of(
    st.floats(0, 1, allow_nan=False).map(Threshold), tradeoffs, st.just(Adaptive())
)
"""Every way to route between two branches."""

routings_of_many: st.SearchStrategy[Routing] = tradeoffs | st.just(Adaptive())
"""Every way to route between more than two branches."""


def examples(share: float) -> settings:
    """Run so many times as many examples as the profile in force says: fewer where they are slow."""
    assert settings.default is not None
    return settings(max_examples=round(share * settings.default.max_examples))
