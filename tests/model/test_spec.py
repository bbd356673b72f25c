"""A model's config is read strictly and written without loss."""

import json
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcsr_cli.errors import ModelError
from pcsr_cli.model.spec import (
    NO_MEAN,
    BackboneSpec,
    ModelSpec,
    Scales,
    convert,
    parse_config,
    sampler_names,
    write_config,
)
from tests.failing import fails

Config = dict[str, Any]


def sampler(*hidden: float, name: str = "liif-sampler", network: str = "mlp") -> Config:
    return {"name": name, "args": {"imnet_spec": {"name": network, "args": {"hidden_list": list(hidden)}}}}


def encoder(name: str, **sizes: object) -> Config:
    return {"encoder_spec": {"name": name, "args": sizes}}


def published(backbone: str = "carn") -> Config:
    """A config as published: no normalisation, no scales."""
    width = {"carn": {"nf": 52}, "fsrcnn": {"d": 48}, "srresnet": {"nf": 58}}[backbone]
    return {
        "encoder_spec": {"name": backbone, "args": {**width, "no_upsampling": True}},
        "light_sampler_spec": sampler(20, 20, 20),
        "heavy_sampler_spec": sampler(74, 74, 74, 74),
        "classifier_spec": sampler(10, 10),
    }


sizes = st.integers(1, 256)
hidden_sizes = st.lists(sizes, max_size=4).map(tuple)
backbone_specs = st.one_of(
    sizes.map(lambda n: BackboneSpec("carn", 4 * n)),
    st.builds(BackboneSpec, st.sampled_from(["fsrcnn", "srresnet"]), sizes),
    st.builds(BackboneSpec, st.just("dense"), sizes, sizes),
)
units = st.floats(0, 1)
model_specs = st.builds(
    ModelSpec,
    backbone=backbone_specs,
    samplers=st.lists(hidden_sizes, min_size=2, max_size=5).map(tuple),
    classifier=hidden_sizes,
    mean=st.tuples(units, units, units),
    std=st.tuples(*[st.floats(0.01, 10)] * 3),
)
scale_specs = st.builds(
    Scales, st.lists(st.floats(1, 16), min_size=1, max_size=5, unique=True).map(tuple), st.booleans()
)


@given(model_specs, scale_specs)
def test_a_written_config_is_read_back(spec: ModelSpec, scales: Scales) -> None:
    config = json.loads(json.dumps(write_config(spec, scales)))
    assert parse_config(config, "config.json") == (spec, scales)


@pytest.mark.parametrize(
    ("backbone", "width", "mean"),
    [("carn", 52, (0.4488, 0.4371, 0.4040)), ("fsrcnn", 48, NO_MEAN), ("srresnet", 58, NO_MEAN)],
)
def test_a_published_config_is_read(backbone: str, width: int, mean: tuple[float, float, float]) -> None:
    samplers = ((20, 20, 20), (74, 74, 74, 74))
    spec, scales = parse_config(published(backbone), "config.json")
    assert spec == ModelSpec(BackboneSpec(backbone, width), samplers, (10, 10), mean, std=(1, 1, 1))
    assert spec.branches == 2
    assert scales is None, "published files do not list scales"


def test_a_classifier_may_have_no_hidden_layer() -> None:
    config = published("fsrcnn") | {"classifier_spec": sampler()}
    assert parse_config(config, "config.json")[0].classifier == ()


def test_own_keys_override_the_defaults() -> None:
    config = published() | {"mean": [0, 0.5, 1], "std": [1, 2, 3], "scales": [4, 2], "continuous": True}
    spec, scales = parse_config(config, "config.json")
    assert (spec.mean, spec.std) == ((0, 0.5, 1), (1, 2, 3))
    assert scales == Scales((2, 4), continuous=True)


def test_samplers_between_light_and_heavy_are_read_in_order() -> None:
    config = published() | {"middle_sampler_specs": [sampler(30), sampler(40)]}
    spec, _ = parse_config(config, "config.json")
    assert spec.samplers == ((20, 20, 20), (30,), (40,), (74, 74, 74, 74))


def test_sampler_names_are_those_of_the_state_dict() -> None:
    assert sampler_names(2) == ("light_sampler", "heavy_sampler")
    assert sampler_names(4) == ("light_sampler", "middle_sampler_1", "middle_sampler_2", "heavy_sampler")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "encoder_spec",
        "encoder_spec.args",
        "light_sampler_spec",
        "heavy_sampler_spec.args",
        "heavy_sampler_spec.args.imnet_spec",
        "classifier_spec.args.imnet_spec.args",
    ],
)
def test_unknown_keys_are_refused_at_every_level(path: str) -> None:
    config = published()
    reduce(Config.__getitem__, path.split(".") if path else [], config)["sclaes"] = 4
    with fails(ModelError, "unknown field `sclaes`"):
        parse_config(config, "config.json")


@pytest.mark.parametrize("key", list(published()))
def test_missing_sections_are_named(key: str) -> None:
    config = published()
    del config[key]
    with fails(ModelError, f"config.json is invalid: object missing required field `{key}`."):
        parse_config(config, "config.json")


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("unknown backbone 'edsr'", encoder("edsr", nf=52)),
        ("d is invalid: expected a whole number <= 4096", encoder("fsrcnn", d=5000)),
        ("unknown field `nf`", encoder("fsrcnn", nf=52)),
        ("missing required field `nf`", encoder("carn")),
        ("must be a multiple of 4", encoder("carn", nf=50)),
        ("nf is invalid: expected a whole number >= 1", encoder("srresnet", nf=0)),
        ("nf is invalid: expected a whole number, got true or false", encoder("srresnet", nf=True)),
        ("missing required field `blocks`", encoder("dense", width=8)),
        ("blocks is invalid: expected a whole number >= 1", encoder("dense", width=8, blocks=0)),
        ("blocks is invalid: expected a whole number <= 256", encoder("dense", width=8, blocks=257)),
        ("samplers is invalid: expected a list of length <= 16", {"middle_sampler_specs": [sampler(8)] * 3000}),
        ("no_upsampling must be true", encoder("carn", nf=64, no_upsampling=False)),
        ("_spec.name is invalid: invalid enum value 'lte'", {"light_sampler_spec": sampler(8, name="lte")}),
        ("imnet_spec.name is invalid: invalid enum value 'cnn'", {"light_sampler_spec": sampler(8, network="cnn")}),
        ("hidden_list[1] is invalid: expected a whole number >= 1", {"classifier_spec": sampler(10, 0)}),
        ("hidden_list[0] is invalid: expected a whole number, got a number", {"classifier_spec": sampler(1.5)}),
        (
            "middle_sampler_specs[0] is invalid: expected a set of keys, got a whole number",
            {"middle_sampler_specs": [8]},
        ),
        ("mean is invalid: expected a list of length 3, got 2", {"mean": [0.4, 0.4]}),
        ("mean[0] is invalid: expected a number >= -100000.0", {"mean": [float("nan"), 0, 0]}),
        ("mean[2] is invalid: expected a number <= 100000.0", {"mean": [0, 0, 1e18]}),
        ("mean[1] is invalid: number out of range", {"mean": [0, 10**400, 0]}),
        ("std[1] is invalid: expected a number >= 1e-05", {"std": [1, 1e-60, 1]}),
        ("std[1] is invalid: expected a number >= 1e-05", {"std": [1, float("nan"), 1]}),
        ("std[1] is invalid: expected a number <= 100000.0", {"std": [1, float("inf"), 1]}),
        ("scales[0] is invalid: expected a number >= 1.0", {"scales": [0.5]}),
        ("scales[0] is invalid: expected a number <= 1000.0", {"scales": [float("inf")]}),
        ("scales[0] is invalid: expected a number, got a text", {"scales": ["4"]}),
    ],
)
def test_an_invalid_config_is_refused_with_the_name_of_the_file(part: str, change: Config) -> None:
    with fails(ModelError, part) as raised:
        parse_config(published() | change, "config.json")
    assert raised.value.sentence.startswith("config.json")


@pytest.mark.parametrize("content", [[], None])
def test_a_config_is_an_object(content: Any) -> None:
    with fails(ModelError, "config.json is invalid: expected a set of keys, got"):
        parse_config(content, "config.json")


class TestScales:
    def test_are_sorted(self) -> None:
        scales = Scales((4, 2, 3))
        assert scales.values == (2, 3, 4)
        assert scales.largest == 4

    @pytest.mark.parametrize("values", [(), (0.5,), (2, 0), (float("nan"),), (float("inf"),)])
    def test_are_numbers_of_at_least_one(self, values: tuple[float, ...]) -> None:
        with fails(ModelError, "a file: values"):
            convert({"values": values}, Scales, "a file")

    def test_only_listed_scales_are_trained(self) -> None:
        scales = Scales((2, 4))
        assert scales.trained(2) and scales.trained(4)
        assert not scales.trained(3) and not scales.trained(1)

    @given(st.floats(0.5, 8))
    def test_continuous_scales_are_trained_throughout(self, scale: float) -> None:
        assert Scales((1, 4), continuous=True).trained(scale) == (1 <= scale <= 4)

    @pytest.mark.parametrize(("scale", "working"), [(1, 2), (2, 2), (2.5, 4), (4, 4), (4.1, 4)])
    def test_work_at_the_next_larger_trained_scale(self, scale: float, working: float) -> None:
        assert Scales((2, 4)).working_scale(scale) == working

    @given(scale_specs, st.floats(1, 20))
    def test_a_working_scale_is_trained_and_no_smaller_if_possible(self, scales: Scales, scale: float) -> None:
        working = scales.working_scale(scale)
        assert scales.trained(working)
        assert working >= min(scale, scales.largest) - 1e-9

    def test_are_printed_as_factors(self) -> None:
        assert str(Scales((4, 2))) == "x2, x4"
        assert str(Scales((1, 4), continuous=True)) == "x1..x4"
