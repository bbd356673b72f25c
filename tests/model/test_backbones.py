"""The networks have the published parameters and keys, and exactly the stated receptive fields."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pcsr_cli.model.backbones import ORIGINALS, build_backbone
from pcsr_cli.model.backbones.carn import CarnBackbone, CarnOriginal
from pcsr_cli.model.network import Pcsr
from pcsr_cli.model.spec import BackboneSpec, ModelSpec
from tests.tiny import BACKBONES, picture, tiny_model, tiny_spec

PUBLISHED = {
    "carn": ModelSpec(BackboneSpec("carn", 52), ((20,) * 3, (74,) * 4), (10, 10)),
    "fsrcnn": ModelSpec(BackboneSpec("fsrcnn", 48), ((10,) * 3, (58,) * 4), ()),
    "srresnet": ModelSpec(BackboneSpec("srresnet", 58), ((40,) * 3, (170,) * 4), (20, 20)),
}

PARAMETERS = {"carn": 168_970, "fsrcnn": 24_502, "srresnet": 1_078_390}
ORIGINAL_PARAMETERS = {"carn": 294_915, "fsrcnn": 24_515, "srresnet": 1_517_571}

RADII = [
    (BackboneSpec("carn", 4), 19),
    (BackboneSpec("fsrcnn", 4), 6),
    (BackboneSpec("srresnet", 2), 33),
    (BackboneSpec("dense", 4, 1), 3),
    (BackboneSpec("dense", 4, 5), 11),
]


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def on_meta(backbone: str) -> Pcsr:
    with torch.device("meta"):
        return Pcsr(PUBLISHED[backbone])


@pytest.mark.parametrize("backbone", PARAMETERS)
def test_pcsr_has_the_published_number_of_parameters(backbone: str) -> None:
    model = on_meta(backbone)
    assert model.parameter_count() == parameters(model) == PARAMETERS[backbone]


@pytest.mark.parametrize("backbone", ORIGINAL_PARAMETERS)
def test_originals_have_the_published_number_of_parameters(backbone: str) -> None:
    with torch.device("meta"):
        assert parameters(ORIGINALS[backbone]()) == ORIGINAL_PARAMETERS[backbone]


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
def test_pcsr_has_the_published_keys_and_shapes(backbone: str, shared: Path) -> None:
    assert state_of(on_meta(backbone)) == published_state(shared / "spec/state_dicts" / f"{backbone}_pcsr.txt")


@pytest.mark.shared
@pytest.mark.parametrize("backbone", ORIGINALS)
def test_originals_have_the_published_keys_and_shapes(backbone: str, shared: Path) -> None:
    with torch.device("meta"):
        network = ORIGINALS[backbone]()
    assert state_of(network) == published_state(shared / "spec/state_dicts" / f"{backbone}_x4_original.txt")


def response(network: nn.Module, x: Tensor) -> Tensor:
    """The LR pixels with a feature other than 0, (h, w) bool."""
    features: Tensor = network(x)
    return (features[0] != 0).any(dim=0)


def open_network(spec: BackboneSpec) -> nn.Module:
    """A backbone through which anything positive passes: no biases, all weights positive, in float64.

    0 then gives exactly 0, so whatever is not 0 has been touched, however faintly.
    """
    network: nn.Module = build_backbone(spec).double().eval().requires_grad_(False)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        else:
            parameter.abs_().clamp_(min=0.01)
    return network


@pytest.mark.parametrize(("spec", "radius"), RADII, ids=str)
@pytest.mark.parametrize("place", ["middle", "corner", "edge"])
def test_one_pixel_changes_exactly_the_square_of_the_radius(spec: BackboneSpec, radius: int, place: str) -> None:
    network = open_network(spec)
    assert build_backbone(spec).receptive_radius == radius
    side = 2 * radius + 5
    row, column = {"middle": (side // 2, side // 2), "corner": (0, side - 1), "edge": (side // 2, 0)}[place]
    x = torch.zeros(1, 3, side, side, dtype=torch.float64)
    x[0, 1, row, column] = 1.0
    rows = (torch.arange(side) - row).abs()[:, None]
    columns = (torch.arange(side) - column).abs()
    assert torch.equal(response(network, x), torch.maximum(rows, columns) <= radius)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_random_weights_change_nothing_beyond_the_radius(backbone: str) -> None:
    network = build_backbone(tiny_spec(backbone).backbone).double().eval().requires_grad_(False)
    radius = network.receptive_radius
    x = picture(3, 2 * radius + 9).double()
    changed = x.clone()
    changed[:, :, :, 0] += 1
    difference = (network(x) - network(changed)).abs().amax(dim=(0, 1, 2))
    assert difference[0] > 0
    assert (difference[radius + 1 :] == 0).all()


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (12, 5)], ids=str)
def test_features_have_the_size_of_the_input(backbone: str, size: tuple[int, int]) -> None:
    model = tiny_model(backbone)
    features = model.encoder(picture(*size))
    assert features.shape == (1, model.encoder.width, *size)
    assert features.isfinite().all()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_images_of_a_batch_do_not_mix(backbone: str) -> None:
    encoder = tiny_model(backbone).encoder
    one, other = picture(9, 8, seed=1), picture(9, 8, seed=2)
    together = encoder(torch.cat((one, other)))
    assert torch.allclose(together, torch.cat((encoder(one), encoder(other))), atol=1e-5)


@pytest.mark.parametrize("backbone", ORIGINALS)
@pytest.mark.parametrize("size", [(1, 1), (5, 8)], ids=str)
def test_originals_upscale_by_four(backbone: str, size: tuple[int, int]) -> None:
    original = ORIGINALS[backbone](8).eval().requires_grad_(False)
    upscaled = original(picture(*size))
    assert upscaled.shape == (1, 3, 4 * size[0], 4 * size[1])
    assert original.scale == 4


State = dict[str, Tensor]


def conv(state: State, name: str, x: Tensor, padding: int = 1) -> Tensor:
    return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding)


def fsrcnn_written_out(state: State, x: Tensor) -> Tensor:
    x = F.prelu(conv(state, "head_conv.0", x, padding=2), state["head_conv.1.weight"])
    x = F.prelu(conv(state, "body_conv.0.0", x, padding=0), state["body_conv.0.1.weight"])
    for index in (1, 2, 3, 4):
        x = conv(state, f"body_conv.{index}", x)
    x = F.prelu(x, state["body_conv.5.weight"])
    return F.prelu(conv(state, "body_conv.6.0", x, padding=0), state["body_conv.6.1.weight"])


def fsrcnn_original_written_out(state: State, x: Tensor) -> Tensor:
    weight, bias = state["tail_conv.weight"], state["tail_conv.bias"]
    features = fsrcnn_written_out(state, x)
    return F.conv_transpose2d(features, weight, bias, stride=4, padding=3, output_padding=1)


def srresnet_written_out(state: State, x: Tensor) -> Tensor:
    x = F.leaky_relu(conv(state, "conv_first", x), 0.1)
    for block in range(16):
        name = f"recon_trunk.{block}"
        x = x + conv(state, f"{name}.conv2", F.relu(conv(state, f"{name}.conv1", x)))
    return x


def srresnet_original_written_out(state: State, x: Tensor) -> Tensor:
    out = srresnet_written_out(state, x)
    for name in ("upconv1", "upconv2"):
        out = F.leaky_relu(F.pixel_shuffle(conv(state, name, out), 2), 0.1)
    out = conv(state, "conv_last", F.leaky_relu(conv(state, "HRconv", out), 0.1))
    return out + F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)


def dense_written_out(state: State, x: Tensor) -> Tensor:
    x = conv(state, "head", x)
    for block in range(2):
        x = x + conv(state, f"blocks.{block}.conv2", F.relu(conv(state, f"blocks.{block}.conv1", x)))
    return x


@pytest.mark.parametrize(
    ("network", "written_out"),
    [
        (build_backbone(BackboneSpec("fsrcnn", 8)), fsrcnn_written_out),
        (build_backbone(BackboneSpec("srresnet", 4)), srresnet_written_out),
        (build_backbone(BackboneSpec("dense", 8, 2)), dense_written_out),
        (ORIGINALS["fsrcnn"](8), fsrcnn_original_written_out),
        (ORIGINALS["srresnet"](4), srresnet_original_written_out),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_networks_without_published_results_follow_their_layers(
    network: nn.Module, written_out: Callable[[State, Tensor], Tensor]
) -> None:
    # CARN is held to the published results themselves, in test_golden.
    generator = torch.Generator().manual_seed(0)
    for name, parameter in network.requires_grad_(False).named_parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * (0.5 if parameter.ndim == 1 else 0.3))
        if parameter.shape == (1,) and name.endswith("weight"):
            parameter.copy_(torch.rand(1, generator=generator))  # the slope of a PReLU
    network, x = network.double(), picture(7, 6).double() - 0.5
    result: Tensor = network(x)
    assert torch.allclose(result, written_out(network.state_dict(), x), rtol=1e-9)


def test_carn_original_upsamples_twice() -> None:
    network = CarnOriginal(8).double().eval().requires_grad_(False)
    state, x = network.state_dict(), picture(5, 6).double()
    out = CarnBackbone.forward(network, x)
    for index in (0, 3):
        name = f"upsample.up.body.{index}"
        out = F.conv2d(out, state[f"{name}.weight"], state[f"{name}.bias"], padding=1, groups=4)
        out = F.pixel_shuffle(F.relu(out), 2)
    assert torch.allclose(network(x), conv(state, "exit", out), rtol=1e-9)


def test_srresnet_original_adds_to_the_bilinear_upscale() -> None:
    original = ORIGINALS["srresnet"](8).eval().requires_grad_(False)
    for parameter in original.parameters():
        parameter.zero_()
    x = picture(6, 7)
    expected = nn.functional.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)
    assert torch.equal(original(x), expected)


def test_carn_uses_each_residual_block_three_times() -> None:
    calls: list[nn.Module] = []
    encoder = build_backbone(BackboneSpec("carn", 8)).eval()
    blocks = [module for name, module in encoder.named_modules() if name in {"b1.b1", "b2.b1", "b3.b1"}]
    for block in blocks:
        block.register_forward_hook(lambda module, *_: calls.append(module))
    encoder(picture(4, 4))
    assert len(blocks) == 3
    assert calls == [block for block in blocks for _ in range(3)]


@pytest.mark.parametrize("spec", [spec for spec, _ in RADII] + [spec.backbone for spec in PUBLISHED.values()], ids=str)
def test_executed_cost_of_a_backbone_matches_its_run(spec: BackboneSpec) -> None:
    with torch.device("meta"):
        backbone = build_backbone(spec)
        with FlopCounterMode(display=False) as counter:
            backbone(torch.empty(1, 3, 7, 5))
    assert counter.get_total_flops() == backbone.cost().executed * 35


@pytest.mark.parametrize("width", [8, None], ids=["small", "published"])
@pytest.mark.parametrize("backbone", ORIGINALS)
def test_executed_cost_of_an_original_matches_its_run(backbone: str, width: int | None) -> None:
    with torch.device("meta"):
        original = ORIGINALS[backbone]() if width is None else ORIGINALS[backbone](width)
        with FlopCounterMode(display=False) as counter:
            original(torch.empty(1, 3, 7, 5))
    assert counter.get_total_flops() == original.cost().executed * 35


@pytest.mark.parametrize(
    "spec", [spec.backbone for spec in PUBLISHED.values()] + [BackboneSpec("dense", 16, 3)], ids=str
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
