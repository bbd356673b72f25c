"""A faster form of the readable network that computes the same numbers, prepared once for a device and precision."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pcsr_cli.engine.fused.backbones import prepare_backbone
from pcsr_cli.engine.fused.rows import Ledger
from pcsr_cli.engine.fused.samplers import PreparedMlp, in_output_units, one_logit
from pcsr_cli.model.backbones import Backbone
from pcsr_cli.model.backbones.bsrn import BsrnBackbone
from pcsr_cli.model.network import Pcsr


class PreparedModel:
    """A model prepared for the engine: the backbone in bands of rows, and the MLPs.

    The backbone computes in ``dtype``, by default the model's, and all other parts in float32. On a CPU the backbone
    runs in bands that fit its cache. On devices other than a CPU, a band is the whole crop. With two branches the
    classifier has one output, the logit of p_heavy.
    """

    def __init__(self, model: Pcsr, dtype: torch.dtype | None = None) -> None:
        self.model = model
        self.dtype = dtype or model.dtype
        self.encoder = _lowered(model.encoder, self.dtype)
        self.branches = model.spec.branches
        self.device = model.device
        self.classifier = PreparedMlp(one_logit(model.classifier) if self.branches == 2 else model.classifier)
        self.samplers = tuple(PreparedMlp(in_output_units(sampler, model.spec.std)) for sampler in model.samplers)
        self.reads_whole_image = model.encoder.receptive_radius is None
        self.banded = prepare_backbone(self.encoder) if model.device.type == "cpu" else None

    def feature_bands(self, x: Tensor, ledger: Ledger) -> Iterator[Tensor]:
        """Yield the features of a normalised crop (1, 3, h, w) in bands (1, C, rows, w) of ``dtype``, top to bottom."""
        if isinstance(self.encoder, BsrnBackbone):
            ledger.repeated += self.encoder.reduced_flops(x.shape[2], x.shape[3])
        x = x.to(self.dtype).contiguous(memory_format=torch.channels_last)
        if self.banded is None:
            yield self.encoder(x)
        else:
            yield from self.banded.stream(x, ledger)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Convert the classifier's outputs to class probabilities (M, ...), lightest first, or to p_heavy (1, ...) for
        two branches. ``logits`` may be overwritten."""
        return logits.sigmoid_() if self.branches == 2 else logits.softmax(dim=0)


def prepare(model: Pcsr) -> PreparedModel:
    """The prepared model, which is kept with the model until its weights, device or precision change.

    A change of weights is found by PyTorch's version counters. Every in-place operation increments the counter of its
    tensor, but operations on ``.data`` do not.
    """
    weights = [*model.parameters(), *model.buffers()]
    made_from = (
        model.dtype,
        *((id(each), each.device, 0 if each.is_inference() else each._version) for each in weights),
    )
    if model.kept.made_from != made_from:
        model.kept.value, model.kept.made_from = PreparedModel(model), made_from
    assert isinstance(model.kept.value, PreparedModel)
    return model.kept.value


def _lowered(backbone: Backbone, dtype: torch.dtype) -> Backbone:
    """The backbone itself in float32, or a copy in ``dtype`` whose BatchNorm stays in float32."""
    if dtype == torch.float32:
        return backbone
    backbone = copy.deepcopy(backbone)
    for module in backbone.modules():
        if not isinstance(module, nn.BatchNorm2d) and not list(module.children()):
            module.to(dtype)
    return backbone
