"""Exported graphs give the engine's results in onnxruntime."""

from dataclasses import replace
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from pcsr_cli.api import load_model
from pcsr_cli.engine.export import OPSET, check_export, export_onnx
from pcsr_cli.engine.rules import ALL_HEAVY, Threshold, usual_refine
from pcsr_cli.engine.upscale import Settings, upscale_whole
from pcsr_cli.errors import RefusedOutputError, ScaleError, UsageError
from pcsr_cli.model.registry import Identity, LoadedModel
from pcsr_cli.model.spec import Scales
from tests.failing import fails
from tests.tiny import BACKBONES, make_image, tiny_model


def tiny(backbone: str, branches: int = 2) -> LoadedModel:
    identity = Identity("tiny", None, "0" * 64, "CC0-1.0", "a test", None)
    return LoadedModel(tiny_model(backbone, branches), identity, Scales((1.0, 4.0), continuous=True))


def check(path: Path, model: LoadedModel, scale: int, cut: float | None, *images: Tensor) -> None:
    """Compare the results of a file with those of the engine."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    settings = Settings(ALL_HEAVY if cut is None else Threshold(cut), refine=usual_refine(scale))
    for image in images:
        (found,) = session.run(["output"], {"input": image.numpy()})
        wanted, labels, _ = upscale_whole(model.network, image, scale, settings)
        assert cut is None or image.numel() < 100 or 0.02 < labels.float().mean() < 0.98
        torch.testing.assert_close(torch.from_numpy(found), wanted.permute(2, 0, 1)[None], rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_builtin_for_one_odd_size_equals_the_engine(scale: int, tmp_path: Path) -> None:
    model = load_model("builtin")
    image = make_image(21, 33)
    export_onnx(model, scale, tmp_path / "a.onnx", (21, 33), None, replace=False)
    check(tmp_path / "a.onnx", model, scale, None, image)
    kinds = {node.op_type for node in onnx.load(tmp_path / "a.onnx").graph.node}
    assert kinds == {"Add", "Sub", "Mul", "Div", "Relu", "Conv", "Resize", "DepthToSpace", "Reshape", "Transpose"}


@pytest.mark.slow
@pytest.mark.parametrize("scale", [2, 4])  # without refinement, and with it
def test_one_routed_graph_takes_images_of_any_size(scale: int, tmp_path: Path) -> None:
    export_onnx(tiny("dense"), scale, tmp_path / "a.onnx", None, 0.5, replace=False)
    images = [make_image(*size) for size in ((24, 32), (7, 45), (31, 2), (1, 1))]
    check(tmp_path / "a.onnx", tiny("dense"), scale, 0.5, *images)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", [backbone for backbone in BACKBONES if backbone != "dense"])
def test_every_backbone_can_be_exported_with_routing(backbone: str, tmp_path: Path) -> None:
    export_onnx(tiny(backbone), 3, tmp_path / "a.onnx", (9, 13), 0.5, replace=False)
    check(tmp_path / "a.onnx", tiny(backbone), 3, 0.5, make_image(9, 13))


@pytest.mark.slow
def test_a_file_states_its_origin_and_its_shapes(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    facts = export_onnx(tiny("dense"), 2, path, None, None, replace=False)
    check(path, tiny("dense"), 2, None, make_image(5, 8))
    model = onnx.load(path)
    assert {entry.key: entry.value for entry in model.metadata_props} == facts
    assert facts["model"] == "tiny" and facts["weights_sha256"] == "0" * 64
    assert facts["licence"] == "CC0-1.0" and facts["scale"] == "2" and facts["routing"] == "all heavy"
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    sides = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert sides == {"input": [1, 3, "height", "width"], "output": [1, 3, "2*height", "2*width"]}
    assert b".py" not in path.read_bytes()
    with fails(RefusedOutputError, "already exists"):
        export_onnx(tiny("dense"), 2, path, None, None, replace=False)
    assert [each.name for each in tmp_path.iterdir()] == ["a.onnx"]


@pytest.mark.parametrize("scale", [2.5, 5, 0.5])
def test_only_whole_trained_scales_can_be_exported(scale: float) -> None:
    assert check_export(tiny("dense"), 3.0) == 3
    with fails(ScaleError):
        check_export(tiny("dense"), scale)
    with fails(ScaleError, "(x4)"):
        check_export(replace(tiny("dense"), scales=Scales((4.0,))), 2)


def test_a_threshold_needs_two_branches(tmp_path: Path) -> None:
    with fails(UsageError, "two branches"):
        export_onnx(tiny("dense", branches=3), 2, tmp_path / "a.onnx", None, 0.5, replace=False)
    assert not list(tmp_path.iterdir())
