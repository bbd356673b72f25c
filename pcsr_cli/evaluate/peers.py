"""The methods that ``pcsr bench`` compares with PCSR at x4: the original networks, ClassSR, and ARM.

ClassSR (Kong et al., CVPR 2021) and ARM (Chen et al., ECCV 2022), both with CARN, route patches of an image. Each LR
patch of 32x32 pixels, in steps of 28, runs alone through the network of its class. Results are rounded to 8 bits. Where
patches overlap, their mean is rounded again. Pixels to the right of the last patch or below it are not computed. The
weights of ClassSR and ARM have no licence, so they do not ship with pcsr."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from msgspec import Meta
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pcsr_cli.engine.device import as_lr, full_float32, to_levels, to_numbers
from pcsr_cli.engine.fused.originals import prepared_original
from pcsr_cli.errors import InputError, ModelError, UsageError
from pcsr_cli.evaluate.arguments import Kind, PeerRequest
from pcsr_cli.evaluate.dataset import PATCH, STRIDE, find_pairs, load_pair, patch_grid
from pcsr_cli.evaluate.metrics import decibels
from pcsr_cli.images.files import is_file, is_folder, read_text, reason
from pcsr_cli.model.backbones import ORIGINALS, Original
from pcsr_cli.model.backbones.carn import CarnOriginal
from pcsr_cli.model.checkpoint import load_pickle, load_safetensors, load_strictly
from pcsr_cli.model.flops import GIGA, ORIGINAL_SCALE
from pcsr_cli.model.layers import Cost, conv
from pcsr_cli.model.spec import DEFAULT_MEANS, NO_MEAN, Table, convert

WIDTHS = (36, 52, 64)
"""The channels of the three networks, lightest first."""

LR_PIXELS = PATCH**2
HR_PATCH = (ORIGINAL_SCALE * PATCH, ORIGINAL_SCALE * PATCH)
HR_PIXELS = HR_PATCH[0] * HR_PATCH[1]

CPU_BATCH, DEVICE_BATCH = 4, 256
"""Patches that run at once on a CPU, and on another device. On a CPU with channels last, a patch takes as long in
batches of 1 to 8, and a third longer in batches of 32."""

CLASSSR_OWN = (0.38, 0.77, 1.15)
"""GFLOPs of a patch as ClassSR counts them, by class, without the classifier."""

BIN_WIDTH = 7.32158203125
BINS = 30
"""The bins of edge scores in ARM's table."""

GREY = (9798, 19235, 3735)
"""Weights of R, G and B in grey. Their sum is 2^15."""

MAX_PATCH_PSNR = 100.0


class ShiftedCarn(CarnOriginal):
    """CARN for RGB in [0, 1], with a trained 1x1 convolution before it and one after it.

    These convolutions subtracted and added the mean colour at the start of their training."""

    def __init__(self, width: int, norm: bool = True) -> None:
        super().__init__(width, norm)
        self.sub_mean = nn.Conv2d(3, 3, 1)
        self.add_mean = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        upscaled: Tensor = self.add_mean(super().forward(self.sub_mean(x)))
        return upscaled

    def cost(self) -> Cost:
        """FLOPs of one LR pixel, upsampling included."""
        return super().cost() + (1 + 16) * conv(3, 3, 1)


class PatchClassifier(nn.Module):
    """ClassSR's classifier: RGB patches (n, 3, 32, 32) in [0, 1] to three logits (n, 3)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 128, 4, stride=4)]
        for width in (128, 128, 128, 32):
            layers += [nn.LeakyReLU(0.1), nn.Conv2d(128, width, 1)]
        self.CondNet = nn.Sequential(*layers)
        self.lastOut = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        logits: Tensor = self.lastOut(self.CondNet(x).mean(dim=(2, 3)))
        return logits

    def cost(self) -> Cost:
        """FLOPs of one patch."""
        position = conv(3, 128, 4) + 3 * conv(128, 128, 1) + conv(128, 32, 1)
        return (PATCH // 4) ** 2 * position + conv(32, 3, 1)


class ClassSrNetwork(nn.Module):
    """The classifier and the networks of the three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = PatchClassifier()
        self.net1, self.net2, self.net3 = (ShiftedCarn(width) for width in WIDTHS)


@dataclass(frozen=True)
class PeerResult:
    """A result (H, W, 3) uint8, and the number of patches of each class, cheapest class first."""

    rgb: NDArray[np.uint8]
    classes: tuple[int, ...]


@dataclass(frozen=True)
class Peer:
    """A method that routes patches.

    ``networks`` has the network of each class, None for bicubic. ``route`` returns the class (n,) of each patch (n, 3,
    32, 32) uint8 for ARM's k. ``costs`` has the FLOPs of a patch by class, and ``own`` the GFLOPs of a patch as
    the method's authors count them."""

    networks: tuple[ShiftedCarn | None, ...]
    route: Callable[[Tensor, float], Tensor]
    costs: tuple[Cost, ...]
    own: tuple[float, ...]

    @torch.inference_mode()
    def upscale(self, lr: NDArray[np.uint8], k: float = 0.0) -> PeerResult:
        """Upscale (h, w, 3) uint8 RGB. Raises InputError for an image smaller than a patch."""
        patches = cut_patches(lr)
        classes = self.route(patches, k)
        results = torch.empty(len(patches), 3, *HR_PATCH, dtype=torch.uint8)
        for number, network in enumerate(self.networks):
            chosen = (classes == number).nonzero().squeeze(1)
            results[chosen] = enlarge(network, patches[chosen])
        counts = torch.bincount(classes, minlength=len(self.networks)).tolist()
        return PeerResult(join_patches(results, (lr.shape[0], lr.shape[1])), tuple(counts))

    def cost(self, classes: Sequence[int]) -> Cost:
        """FLOPs of an image with these numbers of patches."""
        return sum((count * cost for count, cost in zip(classes, self.costs, strict=True)), Cost())

    def own_gflops(self, classes: Sequence[int]) -> float:
        """The mean GFLOPs of a patch as the method's authors count them."""
        return sum(count * each for count, each in zip(classes, self.own, strict=True)) / sum(classes)


def cut_patches(image: NDArray[np.uint8], scale: int = 1) -> Tensor:
    """Cut an image (h, w, 3) to patches (n, 3, 32s, 32s) uint8, row by row. The ``scale`` s of an LR image is 1.

    Raises InputError for an image smaller than a patch."""
    side, step = scale * PATCH, scale * STRIDE
    if min(image.shape[:2]) < side:
        message = f"An image of {image.shape[1]}x{image.shape[0]} pixels is smaller than a patch of {side}x{side}."
        raise InputError(message, "Use larger images.")
    planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return planes.unfold(1, side, step).unfold(2, side, step).permute(1, 2, 0, 3, 4).reshape(-1, 3, side, side)


def join_patches(results: Tensor, lr_size: tuple[int, int]) -> NDArray[np.uint8]:
    """Join enlarged patches (n, 3, 128, 128) uint8 to an image (H, W, 3). Where patches overlap, their mean is rounded.

    H and W are four times the sides of the ``patch_grid`` of ``lr_size``."""
    size = tuple(ORIGINAL_SCALE * side for side in patch_grid(*lr_size))
    columns = results.float().flatten(1).T[None]
    fold = partial(F.fold, output_size=size, kernel_size=HR_PATCH, stride=ORIGINAL_SCALE * STRIDE)
    mean = fold(columns) / fold(torch.ones_like(columns))
    joined: NDArray[np.uint8] = mean[0].permute(1, 2, 0).round().byte().contiguous().numpy()
    return joined


def enlarge(network: ShiftedCarn | None, patches: Tensor) -> Tensor:
    """Enlarge patches (n, 3, 32, 32) uint8 to (n, 3, 128, 128) uint8, each alone. Without a network, use bicubic."""
    if network is None:
        x = to_numbers(patches)
        return to_levels(F.interpolate(x, HR_PATCH, mode="bicubic", align_corners=False), torch.uint8)
    device = network.entry.weight.device
    batches = torch.split(patches, CPU_BATCH if device.type == "cpu" else DEVICE_BATCH)
    results = [torch.empty(0, 3, *HR_PATCH, dtype=torch.uint8)]
    with full_float32(device):
        for batch in batches if len(patches) else ():
            x = to_numbers(batch.to(device)).contiguous(memory_format=torch.channels_last)
            results.append(to_levels(network(x), torch.uint8).cpu())
    return torch.cat(results)


class EdgeTable(Table, frozen=True):
    """ARM's table. For each class, ``psnr`` has the mean PSNR in dB by bin of edge scores, and ``cost`` the FLOPs."""

    bin_centres: Annotated[tuple[float, ...], Meta(min_length=1)]
    psnr: tuple[tuple[float, ...], ...]
    cost: tuple[float, ...]
    source: str = ""
    widths: tuple[int, ...] = (0, *WIDTHS)
    patches_in_bin: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        sizes = {len(row) for row in self.psnr}
        if (len(self.psnr), len(self.cost), self.widths) != (4, 4, (0, *WIDTHS)) or sizes != {len(self.bin_centres)}:
            raise ValueError("psnr must have four lists with a number for each bin, and cost four numbers")

    def decide(self, k: float) -> NDArray[np.int64]:
        """The class of each bin. One dB is worth ``k`` runs of the widest network."""
        value = k * self.cost[-1] * np.array(self.psnr) - np.array(self.cost)[:, None]
        classes: NDArray[np.int64] = value.argmax(axis=0)
        return classes

    def bins(self, scores: NDArray[np.float64]) -> NDArray[np.int64]:
        """The bin with the nearest centre, or the lower bin if two centres are equally near."""
        return nearest(scores, np.array(self.bin_centres))


def nearest(values: NDArray[Any], centres: NDArray[Any]) -> NDArray[np.int64]:
    """The index of the centre nearest to each value, the first of equally near ones."""
    index: NDArray[np.int64] = np.abs(values[:, None] - centres).argmin(axis=1)
    return index


def edge_scores(patches: Tensor) -> NDArray[np.float64]:
    """ARM's edge score (n,) of patches (n, 3, 32, 32) uint8: the mean of the absolute Laplacian of grey."""
    rgb = patches.numpy().astype(np.int32)
    grey = (sum(weight * rgb[:, channel] for channel, weight in enumerate(GREY)) + 2**14) >> 15
    padded = np.pad(grey, [(0, 0), (1, 1), (1, 1)], mode="reflect")
    diagonal = padded[:, :-2, :-2] + padded[:, :-2, 2:] + padded[:, 2:, :-2] + padded[:, 2:, 2:]
    scores: NDArray[np.float64] = np.abs(2 * diagonal - 8 * grey).clip(max=255).mean(axis=(1, 2))
    return scores


def load_classsr(path: Path, device: torch.device) -> Peer:
    """Load ClassSR-CARN from its published file. Raises ModelError, which names wrong keys."""
    network = ClassSrNetwork()
    load_strictly(network, load_state(path), str(path), "ClassSR-CARN")
    networks = [prepare(net.to(device)) for net in (network.net1, network.net2, network.net3)]
    classifier = network.classifier.to(device).eval().requires_grad_(False)

    def route(patches: Tensor, k: float) -> Tensor:
        logits: Tensor = classifier(to_numbers(patches.to(device)))
        return logits.argmax(dim=1).cpu()

    costs = tuple(LR_PIXELS * net.cost() + classifier.cost() for net in networks)
    return Peer(tuple(networks), route, costs, CLASSSR_OWN)


def load_arm(path: Path, device: torch.device, table: Path | None = None) -> Peer:
    """Load ARM-CARN from its published file. Raises ModelError and InputError.

    ``table`` is a JSON file, or a folder of HR images from which the table is computed. None selects the JSON file
    beside the weights."""
    widest = ShiftedCarn(WIDTHS[-1], norm=False)
    load_strictly(widest, load_state(path), str(path), "ARM-CARN")
    networks = [prepare(slice_network(widest, width).to(device)) for width in WIDTHS]
    edges = compute_table(networks, table) if table is not None and is_folder(table) else read_table(table, path)

    def route(patches: Tensor, k: float) -> Tensor:
        return torch.from_numpy(edges.decide(k)[edges.bins(edge_scores(patches))])

    score = Cost(0, 16 * LR_PIXELS)
    costs = (Cost(0, 96 * HR_PIXELS) + score, *(LR_PIXELS * net.cost() + score for net in networks))
    return Peer((None, *networks), route, costs, tuple(flops / GIGA for flops in edges.cost))


def slice_network(widest: ShiftedCarn, width: int) -> ShiftedCarn:
    """The network of the first channels of every layer."""
    network, state = ShiftedCarn(width, norm=False), widest.state_dict()
    sliced = {key: state[key][tuple(map(slice, value.shape))] for key, value in network.state_dict().items()}
    network.load_state_dict(sliced)
    return network


def prepare(network: ShiftedCarn) -> ShiftedCarn:
    """Prepare a network for running, in place: evaluation mode, BatchNorm folded, channels last."""
    network.eval().requires_grad_(False)
    for module in list(network.modules()):
        for name, fusion in list(module.named_children()):
            match list(fusion.children()):
                case [nn.Conv2d() as first, nn.BatchNorm2d() as norm, activation]:
                    module.add_module(name, nn.Sequential(fuse_conv_bn_eval(first, norm), activation))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def read_table(path: Path | None, weights: Path) -> EdgeTable:
    """Read ARM's table. Without a ``path``, the table is the only JSON file beside the weights. Raises ModelError."""
    if path is None:
        beside = sorted(weights.parent.glob("*.json"))
        if len(beside) != 1:
            message = f"Cannot find ARM's table: there are {len(beside)} JSON files beside {weights}."
            raise ModelError(message, "Name the table, or a folder of HR images to compute it from.", setting="peer")
        path = beside[0]
    try:
        data = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"Cannot read ARM's table {path}: {reason(error)}.", "Check the path.") from error
    return convert(data, EdgeTable, str(path))


def compute_table(networks: Sequence[ShiftedCarn], folder: Path) -> EdgeTable:
    """Compute ARM's table from the HR images of a folder: for each class and bin, the mean PSNR of the patches.

    A bin without patches has the values of the nearest bin with patches. Raises InputError."""
    scores, quality = [], []
    for files in find_pairs([folder], ORIGINAL_SCALE):
        pair = load_pair(files, ORIGINAL_SCALE, paper=True)
        assert pair.hr is not None
        patches, truth = cut_patches(pair.lr), cut_patches(pair.hr, ORIGINAL_SCALE).float()
        scores.append(edge_scores(patches))
        errors = [(enlarge(net, patches) - truth).square().mean(dim=(1, 2, 3)) for net in (None, *networks)]
        quality.append([[min(MAX_PATCH_PSNR, decibels(value)) for value in each.tolist()] for each in errors])
    centres = BIN_WIDTH * (np.arange(BINS) + 0.5)
    cost = (0.0, *(LR_PIXELS * CarnOriginal.cost(net).executed for net in networks))
    bins = nearest(np.concatenate(scores), centres)
    values = np.concatenate(quality, axis=1)
    filled = np.flatnonzero(np.bincount(bins, minlength=BINS))
    used = filled[nearest(np.arange(BINS), filled)]
    psnr = [[float(row[bins == each].mean()) for each in used] for row in values]
    return convert({"bin_centres": centres.tolist(), "psnr": psnr, "cost": cost}, EdgeTable, str(folder))


@dataclass(frozen=True)
class LoadedOriginal:
    """An original x4 network with its weights. ``mean`` is subtracted from RGB in [0, 1]."""

    name: str
    network: Original
    mean: tuple[float, float, float]

    def cost(self, lr_pixels: int) -> Cost:
        """Return the FLOPs for an image."""
        return self.network.cost() * lr_pixels

    @cached_property
    def _prepared(self) -> Callable[[Tensor], Tensor]:
        return prepared_original(self.network)

    @torch.inference_mode()
    def upscale(self, lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Upscale (h, w, 3) uint8 RGB to (4h, 4w, 3), as a whole."""
        device = next(self.network.parameters()).device
        mean = torch.tensor(self.mean, device=device).view(1, 3, 1, 1)
        x = to_numbers(as_lr(lr).to(device)) - mean
        with full_float32(x.device):
            rgb = (self._prepared if device.type == "cpu" else self.network)(x)[0] + mean[0]
        values: NDArray[np.uint8] = to_levels(rgb, torch.uint8).permute(1, 2, 0).cpu().numpy()
        return np.ascontiguousarray(values)


def load_state(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a ``.safetensors`` or ``.pth`` by name.

    A ``.pth`` contains the state dict, ``{"params": state dict}`` as published for BSRN, or ``{"model": {"sd": state
    dict}}`` as published by PCSR's authors. Raises ModelError."""
    if not is_file(path):
        raise ModelError(f"{path} does not exist.", "Check the path.")
    if path.suffix == ".safetensors":
        return load_safetensors(path)
    content = load_pickle(path)
    for keys in (("params",), ("model", "sd")):
        inner = content
        for key in keys:
            inner = inner.get(key) if isinstance(inner, dict) else None
        content = content if inner is None else inner
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ModelError(f"{path} contains no state dict.", "Give the weights of the network.")
    return content


def load_original(path: Path, device: torch.device) -> LoadedOriginal:
    """Load a ``.safetensors`` or ``.pth`` of CARN, FSRCNN, SRResNet or BSRN at x4. The keys identify the network.

    Raises ModelError."""
    state = load_state(path)
    for name, network_class in ORIGINALS.items():
        with torch.device("meta"):
            network = network_class()
        if set(network.state_dict()) == set(state):
            load_strictly(network, state, str(path))
            mean = DEFAULT_MEANS.get(name, NO_MEAN)
            return LoadedOriginal(name, network.eval().requires_grad_(False).to(device), mean)
    raise ModelError(f"{path} contains none of the original networks.", f"Supported at x4: {', '.join(ORIGINALS)}.")


def load_peers(requests: Sequence[PeerRequest], device: torch.device) -> dict[Kind, Peer | LoadedOriginal]:
    """Load the peers. Raises UsageError for the weights of another network, and the errors of loading."""
    return {each.method.kind: _load(each, device) for each in requests}


def _load(request: PeerRequest, device: torch.device) -> Peer | LoadedOriginal:
    match request.method.kind:
        case "classsr":
            return load_classsr(request.path, device)
        case "arm":
            return load_arm(request.path, device, request.table)
        case name:
            original = load_original(request.path, device)
            if original.name != name:
                message = f"{request.path} contains the weights of {original.name}, not of {name}."
                raise UsageError(message, "Name the peer by its network.", setting="peer")
            return original
