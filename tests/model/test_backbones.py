"""The networks have the published parameters and keys, and exactly the stated receptive fields."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pcsr_cli.model.backbones import ORIGINALS, build_backbone
from pcsr_cli.model.backbones.carn import CarnBackbone, CarnOriginal
from pcsr_cli.model.network import Pcsr
from pcsr_cli.model.spec import BackboneSpec, ModelSpec
from tests.tiny import BACKBONES, LOCAL, make_image, tiny_model, tiny_spec

PUBLISHED = {
    "carn": ModelSpec(BackboneSpec("carn", 52), ((20,) * 3, (74,) * 4), (10, 10)),
    "fsrcnn": ModelSpec(BackboneSpec("fsrcnn", 48), ((10,) * 3, (58,) * 4), ()),
    "srresnet": ModelSpec(BackboneSpec("srresnet", 58), ((40,) * 3, (170,) * 4), (20, 20)),
    "bsrn": ModelSpec(BackboneSpec("bsrn", 48, 8), ((10,) * 3, (48,) * 4), ()),
}
"""The paper's networks. BSRN-PCSR is a reconstruction from its number of parameters."""

PARAMETERS = {
    "carn": (168_970, 294_915),
    "fsrcnn": (24_502, 24_515),
    "srresnet": (1_078_390, 1_517_571),
    "bsrn": (198_484, 352_400),
}
"""Of PCSR and of the original."""

RADII = [
    (BackboneSpec("carn", 4), 19),
    (BackboneSpec("fsrcnn", 4), 6),
    (BackboneSpec("srresnet", 2), 33),
    (BackboneSpec("dense", 4, 1), 3),
    (BackboneSpec("dense", 4, 5), 11),
]


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def on_meta(build: Callable[..., Any], *arguments: object) -> Any:
    """Build a network without data."""
    with torch.device("meta"):
        return build(*arguments)


@pytest.mark.parametrize("backbone", PARAMETERS)
def test_networks_have_the_published_number_of_parameters(backbone: str) -> None:
    model, original = on_meta(Pcsr, PUBLISHED[backbone]), on_meta(ORIGINALS[backbone])
    assert (parameters(model), parameters(original)) == PARAMETERS[backbone]
    assert model.parameter_count() == parameters(model)


def published_state(listing: Path) -> dict[str, tuple[list[int], str]]:
    """Key, shape and type of every tensor of a listing."""
    lines = [line for line in listing.read_text().splitlines() if not line.startswith("#")]
    columns = [line.split() for line in lines]
    return {
        key: ([] if shape == "scalar" else [int(side) for side in shape.split("x")], dtype)
        for key, shape, dtype in columns
    }


def state_of(network: nn.Module) -> dict[str, tuple[list[int], str]]:
    state = network.state_dict()
    return {key: (list(value.shape), str(value.dtype).removeprefix("torch.")) for key, value in state.items()}


@pytest.mark.shared
@pytest.mark.parametrize("backbone", PUBLISHED)
def test_networks_have_the_published_keys_and_shapes(backbone: str, shared: Path) -> None:
    listings = shared / "spec/state_dicts"
    if backbone == "bsrn":  # no BSRN-PCSR is published
        assert state_of(on_meta(ORIGINALS[backbone])) == published_state(listings / "bsrn_x4.txt")
        return
    assert state_of(on_meta(Pcsr, PUBLISHED[backbone])) == published_state(listings / f"{backbone}_pcsr.txt")
    assert state_of(on_meta(ORIGINALS[backbone])) == published_state(listings / f"{backbone}_x4_original.txt")


def positive_network(spec: BackboneSpec) -> nn.Module:
    """A backbone without biases and with positive weights, in float64.

    Zeros then give exactly 0, and every positive pixel within the radius of a feature makes the feature positive.
    """
    network: nn.Module = build_backbone(spec).double().eval().requires_grad_(False)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        else:
            parameter.abs_().clamp_(min=0.01)
    return network


@pytest.mark.parametrize(("spec", "radius"), RADII, ids=str)
@pytest.mark.parametrize("position", ["middle", "corner", "edge"])
def test_one_pixel_changes_exactly_the_square_of_the_radius(spec: BackboneSpec, radius: int, position: str) -> None:
    network = positive_network(spec)
    assert build_backbone(spec).receptive_radius == radius
    side = 2 * radius + 5
    row, column = {"middle": (side // 2, side // 2), "corner": (0, side - 1), "edge": (side // 2, 0)}[position]
    x = torch.zeros(1, 3, side, side, dtype=torch.float64)
    x[0, 1, row, column] = 1.0
    changed = (network(x)[0] != 0).any(dim=0)
    rows = (torch.arange(side) - row).abs()[:, None]
    columns = (torch.arange(side) - column).abs()
    assert torch.equal(changed, torch.maximum(rows, columns) <= radius)


@pytest.mark.parametrize("backbone", LOCAL)
def test_random_weights_change_nothing_beyond_the_radius(backbone: str) -> None:
    network = build_backbone(tiny_spec(backbone).backbone).double().eval().requires_grad_(False)
    radius = network.receptive_radius
    assert radius is not None
    x = make_image(3, 2 * radius + 9).double()
    changed = x.clone()
    changed[:, :, :, 0] += 1
    difference = (network(x) - network(changed)).abs().amax(dim=(0, 1, 2))
    assert difference[0] > 0
    assert (difference[radius + 1 :] == 0).all()


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (12, 5)], ids=str)
def test_features_have_the_size_of_the_input(backbone: str, size: tuple[int, int]) -> None:
    model = tiny_model(backbone)
    features = model.encoder(make_image(*size))
    assert features.shape == (1, model.encoder.width, *size)
    assert features.isfinite().all()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_images_of_a_batch_do_not_mix(backbone: str) -> None:
    encoder = tiny_model(backbone).encoder
    one, other = make_image(9, 8, seed=1), make_image(9, 8, seed=2)
    together = encoder(torch.cat((one, other)))
    assert torch.allclose(together, torch.cat((encoder(one), encoder(other))), atol=1e-5)


@pytest.mark.parametrize("backbone", ORIGINALS)
@pytest.mark.parametrize("size", [(1, 1), (5, 8)], ids=str)
def test_originals_upscale_by_four(backbone: str, size: tuple[int, int]) -> None:
    original = ORIGINALS[backbone](16).eval().requires_grad_(False)
    upscaled = original(make_image(*size))
    assert upscaled.shape == (1, 3, 4 * size[0], 4 * size[1])


State = dict[str, Tensor]


def conv(state: State, name: str, x: Tensor, padding: int = 1) -> Tensor:
    return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding)


def functional_fsrcnn(state: State, x: Tensor) -> Tensor:
    x = F.prelu(conv(state, "head_conv.0", x, padding=2), state["head_conv.1.weight"])
    x = F.prelu(conv(state, "body_conv.0.0", x, padding=0), state["body_conv.0.1.weight"])
    for index in (1, 2, 3, 4):
        x = conv(state, f"body_conv.{index}", x)
    x = F.prelu(x, state["body_conv.5.weight"])
    return F.prelu(conv(state, "body_conv.6.0", x, padding=0), state["body_conv.6.1.weight"])


def functional_fsrcnn_original(state: State, x: Tensor) -> Tensor:
    weight, bias = state["tail_conv.weight"], state["tail_conv.bias"]
    features = functional_fsrcnn(state, x)
    return F.conv_transpose2d(features, weight, bias, stride=4, padding=3, output_padding=1)


def functional_srresnet(state: State, x: Tensor) -> Tensor:
    x = F.leaky_relu(conv(state, "conv_first", x), 0.1)
    for block in range(16):
        name = f"recon_trunk.{block}"
        x = x + conv(state, f"{name}.conv2", F.relu(conv(state, f"{name}.conv1", x)))
    return x


def functional_srresnet_original(state: State, x: Tensor) -> Tensor:
    out = functional_srresnet(state, x)
    for name in ("upconv1", "upconv2"):
        out = F.leaky_relu(F.pixel_shuffle(conv(state, name, out), 2), 0.1)
    out = conv(state, "conv_last", F.leaky_relu(conv(state, "HRconv", out), 0.1))
    return out + F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)


def functional_dense(state: State, x: Tensor) -> Tensor:
    x = conv(state, "head", x)
    for block in range(2):
        x = x + conv(state, f"blocks.{block}.conv2", F.relu(conv(state, f"blocks.{block}.conv1", x)))
    return x


@pytest.mark.parametrize(
    ("network", "functional"),
    [
        (build_backbone(BackboneSpec("fsrcnn", 8)), functional_fsrcnn),
        (build_backbone(BackboneSpec("srresnet", 4)), functional_srresnet),
        (build_backbone(BackboneSpec("dense", 8, 2)), functional_dense),
        (ORIGINALS["fsrcnn"](8), functional_fsrcnn_original),
        (ORIGINALS["srresnet"](4), functional_srresnet_original),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_networks_match_their_functional_form(
    network: nn.Module, functional: Callable[[State, Tensor], Tensor]
) -> None:
    # test_golden compares CARN with its published results.
    generator = torch.Generator().manual_seed(0)
    for name, parameter in network.requires_grad_(False).named_parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * (0.5 if parameter.ndim == 1 else 0.3))
        if parameter.shape == (1,) and name.endswith("weight"):
            parameter.copy_(torch.rand(1, generator=generator))  # the slope of a PReLU
    network, x = network.double(), make_image(7, 6).double() - 0.5
    result: Tensor = network(x)
    assert torch.allclose(result, functional(network.state_dict(), x), rtol=1e-9)


def test_carn_original_upsamples_twice() -> None:
    network = CarnOriginal(8).double().eval().requires_grad_(False)
    state, x = network.state_dict(), make_image(5, 6).double()
    out = CarnBackbone.forward(network, x)
    for index in (0, 3):
        name = f"upsample.up.body.{index}"
        out = F.conv2d(out, state[f"{name}.weight"], state[f"{name}.bias"], padding=1, groups=4)
        out = F.pixel_shuffle(F.relu(out), 2)
    assert torch.allclose(network(x), conv(state, "exit", out), rtol=1e-9)


def test_carn_uses_each_residual_block_three_times() -> None:
    calls: list[nn.Module] = []
    encoder = build_backbone(BackboneSpec("carn", 8)).eval()
    blocks = [module for name, module in encoder.named_modules() if name in {"b1.b1", "b2.b1", "b3.b1"}]
    for block in blocks:
        block.register_forward_hook(lambda module, *_: calls.append(module))
    encoder(make_image(4, 4))
    assert len(blocks) == 3
    assert calls == [block for block in blocks for _ in range(3)]


@pytest.mark.parametrize(
    ("build", "arguments"),
    [
        *(
            (build_backbone, (spec,))
            for spec in [spec for spec, _ in RADII] + [PUBLISHED[name].backbone for name in LOCAL if name in PUBLISHED]
        ),
        *((ORIGINALS[name], arguments) for name in LOCAL if name in ORIGINALS for arguments in [(), (8,)]),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_executed_cost_matches_a_run(build: Callable[..., nn.Module], arguments: tuple[object, ...]) -> None:
    network = on_meta(build, *arguments)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, 7, 5))
    assert counter.get_total_flops() == network.cost().executed * 35


@pytest.mark.parametrize("size", [(1, 1), (15, 40), (31, 16), (60, 60)], ids=str)
def test_bsrn_costs_more_at_reduced_resolution_than_its_pixels(size: tuple[int, int]) -> None:
    network = on_meta(build_backbone, BackboneSpec("bsrn", 48, 8))
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, *size))
    assert counter.get_total_flops() == network.cost().executed * math.prod(size) + network.reduced_flops(*size)
    large = (3000, 4000)
    whole = network.cost().executed * math.prod(large) + network.reduced_flops(*large)
    assert whole == pytest.approx(network.cost().paper * math.prod(large), rel=1e-5)


def test_a_pixel_of_bsrn_changes_the_whole_image() -> None:
    torch.manual_seed(0)  # the few hidden units of other weights may all be inactive
    network = build_backbone(BackboneSpec("bsrn", 64, 1)).double().eval().requires_grad_(False)
    one, other = make_image(20, 90).double(), make_image(20, 90).double()
    other[..., 0] += 1
    assert ((network(one) - network(other)).abs().amax(dim=(0, 1, 2)) > 0).all()


@pytest.mark.parametrize(
    "spec", [PUBLISHED[name].backbone for name in LOCAL if name in PUBLISHED] + [BackboneSpec("dense", 16, 3)], ids=str
)
def test_the_paper_also_counts_activations_and_norms(spec: BackboneSpec) -> None:
    with torch.device("meta"):
        backbone = build_backbone(spec)
    extra = backbone.cost().paper - backbone.cost().executed
    counted: list[float] = []

    def count(module: nn.Module, inputs: tuple[Tensor], _: Tensor) -> None:
        per_element = 2 if isinstance(module, nn.BatchNorm2d) else 1
        counted.append(per_element * math.prod(inputs[0].shape))

    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d | nn.PReLU):
            module.register_forward_hook(count)
    with torch.device("meta"):
        backbone.eval()(torch.empty(1, 3, 7, 5))
    assert sum(counted) == extra * 35
