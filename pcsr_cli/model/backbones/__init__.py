"""Backbones that compute LR features, and the original networks to compare them with. Each backbone has its own
file."""

from pcsr_cli.model.backbones.bsrn import BsrnBackbone, BsrnOriginal
from pcsr_cli.model.backbones.carn import CarnBackbone, CarnOriginal
from pcsr_cli.model.backbones.dense import DenseBackbone
from pcsr_cli.model.backbones.fsrcnn import FsrcnnBackbone, FsrcnnOriginal
from pcsr_cli.model.backbones.srresnet import SrresnetBackbone, SrresnetOriginal
from pcsr_cli.model.spec import BackboneSpec

Backbone = CarnBackbone | FsrcnnBackbone | SrresnetBackbone | DenseBackbone | BsrnBackbone
Original = CarnOriginal | FsrcnnOriginal | SrresnetOriginal | BsrnOriginal

ORIGINALS: dict[str, type[Original]] = {
    "carn": CarnOriginal,
    "fsrcnn": FsrcnnOriginal,
    "srresnet": SrresnetOriginal,
    "bsrn": BsrnOriginal,
}
"""The published x4 networks, by the name of the backbone."""


def build_backbone(spec: BackboneSpec) -> Backbone:
    """The backbone of a spec, with PyTorch's initial weights."""
    if spec.depth is not None:
        return (BsrnBackbone if spec.name == "bsrn" else DenseBackbone)(spec.width, spec.depth)
    networks: dict[str, type[Backbone]] = {"carn": CarnBackbone, "fsrcnn": FsrcnnBackbone, "srresnet": SrresnetBackbone}
    return networks[spec.name](spec.width)
