"""Super-resolution with PCSR networks: only hard pixels use the heavy upsampler.

    import pcsr_cli
    model = pcsr_cli.load_model("carn")
    result = pcsr_cli.upscale(PIL.Image.open("in.png"), model, scale=4, routing=pcsr_cli.Adaptive())
    result.image.save("out.png")

Names are imported on first use, so that importing the package is fast.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pcsr_cli.api import Upscaled, load_model, upscale
    from pcsr_cli.engine.rules import Adaptive, Threshold, Tradeoff
    from pcsr_cli.errors import PcsrError
    from pcsr_cli.model.registry import LoadedModel

__version__ = "0.1.0"

__all__ = [
    "Adaptive",
    "LoadedModel",
    "PcsrError",
    "Threshold",
    "Tradeoff",
    "Upscaled",
    "__version__",
    "load_model",
    "upscale",
]

_HOMES = {
    "Adaptive": "engine.rules",
    "LoadedModel": "model.registry",
    "PcsrError": "errors",
    "Threshold": "engine.rules",
    "Tradeoff": "engine.rules",
    "Upscaled": "api",
    "load_model": "api",
    "upscale": "api",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
