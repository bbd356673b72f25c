"""Write a whole network as one ONNX graph: RGB (1, 3, h, w) in [0, 1] to RGB (1, 3, s*h, s*w), for a whole scale s.

At a whole scale, the s*s HR pixels of an LR pixel have the same positions in every LR pixel. An MLP is therefore a
stack of 1x1 convolutions on a batch of s*s feature maps, and a pixel-shuffle interleaves the s*s results.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcsr_cli.engine.routing import decide
from pcsr_cli.engine.rules import ALL_HEAVY, NEVER, Threshold, usual_refine
from pcsr_cli.errors import ScaleError
from pcsr_cli.images.files import atomic_write
from pcsr_cli.model.flops import model_costs
from pcsr_cli.model.network import Pcsr
from pcsr_cli.model.registry import LoadedModel
from pcsr_cli.model.sampler import PixelSampler
from pcsr_cli.model.spec import check_scale

OPSET = 18
"""The version of the ONNX operators in the files."""

SIDES = "height", "width"


class _Mlp(nn.Module):
    """An MLP at all HR pixels: features (1, C, h, w) to (s*s, outputs, h, w), row by row within an LR pixel."""

    def __init__(self, sampler: PixelSampler, scale: int) -> None:
        super().__init__()
        rel = (2 * torch.arange(scale) + 1) / scale - 1
        rows, columns = sampler.coordinate_terms(rel, rel, (2 / scale, 2 / scale))
        first, *others = (_pointwise(layer) for layer in sampler.imnet.layers)
        self.first = first.weight[:, : sampler.width]
        self.terms = (rows[:, None] + columns).flatten(0, 1)[:, :, None, None]
        self.others = nn.Sequential(*others)

    def table(self, features: Tensor) -> Tensor:
        """The share of the first layer that the HR pixels of an LR pixel have in common, (1, n, h, w)."""
        return F.conv2d(features, self.first)

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.others(self.table(features) + self.terms)
        return out

    def at(self, features: Tensor, position: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """The outputs (N, outputs) at N HR pixels: a position within an LR pixel, and the row and column of that."""
        table = self.table(features)[0].permute(1, 2, 0)
        pixels = table[row, column] + self.terms[position, :, 0, 0]
        out: Tensor = self.others(pixels.T[None, :, :, None])
        return out[0, :, :, 0].T


def _pointwise(layer: nn.Module) -> Any:
    """A linear layer as a 1x1 convolution. Other layers are returned unchanged."""
    if not isinstance(layer, nn.Linear):
        return layer
    convolution = nn.Conv2d(layer.in_features, layer.out_features, 1)
    convolution.weight, convolution.bias = nn.Parameter(layer.weight[:, :, None, None]), layer.bias
    return convolution


class _WholeNetwork(nn.Module):
    """A network with base, routing and refinement: RGB (1, 3, h, w) in [0, 1] to (1, 3, s*h, s*w), not clamped.

    The network is all heavy, or routed by ``cut``: the light sampler at every pixel, the heavy one at the pixels whose
    p_heavy exceeds ``cut``. From x3, a routed network is refined.
    """

    def __init__(self, network: Pcsr, scale: int, cut: float | None) -> None:
        super().__init__()
        self.scale, self.cut = scale, cut
        self.encoder = network.encoder
        self.mean, self.std = (torch.tensor(values)[:, None, None] for values in (network.spec.mean, network.spec.std))
        self.heavy = _Mlp(network.samplers[-1], scale)
        if cut is not None:
            self.light, self.classifier = _Mlp(network.samplers[0], scale), _Mlp(network.classifier, scale)

    def forward(self, image: Tensor) -> Tensor:
        features = self.encoder((image - self.mean) / self.std)
        base = F.interpolate(image, scale_factor=float(self.scale), mode="bilinear")
        if self.cut is None:
            return base + self._image(self.heavy(features)) * self.std
        heavy = self.classifier(features).softmax(dim=1)[:, 1] > self.cut
        where = heavy.nonzero(as_tuple=True)
        residual = self.light(features).permute(0, 2, 3, 1).index_put(where, self.heavy.at(features, *where))
        rgb = base + self._image(residual.permute(0, 3, 1, 2)) * self.std
        return rgb if usual_refine(self.scale) == NEVER else self._refined(rgb, self._image(heavy[:, None].float()))

    def _image(self, x: Tensor) -> Tensor:
        """Interleave (s*s, channels, h, w) to (1, channels, s*h, s*w)."""
        return F.pixel_shuffle(x.transpose(0, 1).reshape(1, -1, *x.shape[2:]), self.scale)

    def _refined(self, rgb: Tensor, heavy: Tensor) -> Tensor:
        """Replace light pixels with a heavy neighbour by the mean of their 3x3, except on the outermost ring."""
        inner = (..., slice(1, -1), slice(1, -1))
        mean = F.avg_pool2d(torch.cat((rgb, heavy), dim=1), 3, 1)
        seam = (mean[:, 3:] > 0) & (heavy[inner] == 0)
        return rgb + F.pad(torch.where(seam, mean[:, :3] - rgb[inner], 0.0), (1, 1, 1, 1))


def check_export(model: LoadedModel, scale: float) -> int:
    """Return the scale of a graph. Raises ScaleError unless the scale is whole and the model was trained for it."""
    check_scale(scale)
    if not model.scales.trained(scale) or scale % 1:
        raise ScaleError(
            f"{model.identity.name} cannot be exported at x{scale:g}.",
            f"Use a whole scale that the model was trained for ({model.scales}).",
        )
    return int(scale)


def export_onnx(
    model: LoadedModel, scale: int, output: Path, size: tuple[int, int] | None, cut: float | None, replace: bool
) -> dict[str, str]:
    """Write a model to an ONNX file of opset ``OPSET`` and return the metadata in the file.

    The input has the ``size`` (height, width), or any size if it is None. Without a ``cut``, the graph is all heavy.
    Raises UsageError if the model does not support the cut, OutputError and RefusedOutputError.
    """
    import onnx

    network = model.network
    decide(ALL_HEAVY if cut is None else Threshold(cut), model_costs(network).routed(scale))
    graph = _WholeNetwork(network, scale, cut).eval().requires_grad_(False)
    # The traced values do not matter, and one number in memory stands for all.
    image = torch.zeros(1).expand(1, 3, *(size or (24, 32)))
    shapes = None if size else ({2 + axis: torch.export.Dim(side) for axis, side in enumerate(SIDES)},)
    with _silent():
        program = torch.onnx.export(
            graph,
            (image,),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=["input"],
            output_names=["output"],
            dynamic_shapes=shapes,
        )
    assert program is not None
    proto = program.model_proto
    _remove_traces(proto.graph)
    identity = model.identity
    facts = {
        "model": identity.name,
        "revision": identity.revision or "",
        "weights_sha256": identity.sha256,
        "licence": identity.licence,
        "source": identity.source,
        "scale": f"{scale}",
        "routing": "all heavy" if cut is None else f"threshold {cut:g}",
    }
    onnx.helper.set_model_props(proto, facts)
    onnx.checker.check_model(proto)
    with atomic_write(output, replace) as temporary:
        temporary.write_bytes(proto.SerializeToString())
    return facts


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the exporter's notes on its own parts off stderr inside the block."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _remove_traces(graph: Any) -> None:
    """Remove the exporter's notes from a graph, which contain the paths of this machine."""
    for item in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
