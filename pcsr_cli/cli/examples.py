"""The examples that help shows; tests run every one of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """A command line, and what it does."""

    command: str
    said: str


EXAMPLES: dict[str, tuple[Example, ...]] = {
    "pcsr": (
        Example("pcsr upscale in.png out.png", "four times larger, by the best model there is"),
        Example("pcsr upscale folder results --scale 2", "a folder of pictures, twice as large"),
        Example("pcsr verify in.png", "is pcsr's result the same whichever way it is computed?"),
    ),
    "pcsr upscale": (
        Example("pcsr upscale in.jpg out.webp --scale 2.5 --adm", "any real scale; ADM decides what is hard"),
        Example("pcsr upscale in.png out.png --budget 80%", "spend 80% of the original network's GFLOPs"),
        Example("pcsr upscale 'folder/*.png' results --skip-existing", "a pattern of files, what is missing of it"),
        Example("pcsr upscale in.png out.png --map map.png", "and a picture of where the compute went"),
        Example("pcsr upscale - - --format png < in.png > out.png", "in a pipe"),
    ),
    "pcsr bench": (
        Example("pcsr bench folder", "reduce the pictures, enlarge them in five ways, compare"),
        Example("pcsr bench folder --methods threshold,k=1,bicubic --csv rows.csv", "ways of your choice"),
    ),
    "pcsr sweep": (
        Example("pcsr sweep in.png --threshold 0:1:0.1", "the curve at eleven cuts"),
        Example("pcsr sweep --k", "along k, over the picture that ships"),
    ),
    "pcsr verify": (
        Example("pcsr verify in.png", "the whole picture"),
        Example("pcsr verify in.png --crop 48 --tile 16 --precision bf16", "part of it, your tiles, bf16 as well"),
    ),
    "pcsr doctor": (Example("pcsr doctor", "what there is, and what to do about what is not"),),
    "pcsr models": (
        Example("pcsr models", "what there is"),
        Example("pcsr models show builtin", "all that is known of one"),
    ),
}
