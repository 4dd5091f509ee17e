"""Make ``import torchvision`` work beside a CPU build of torch, so that the ``lpips`` package can be used.

The torchvision wheel is built for CUDA: beside a CPU torch its library doesn't load, and registering kernels for two
operators that nobody defined ends the import. Declaring both is enough; they compute nothing.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[torch.library.Library] = []


@cache
def declare_operators() -> bool:
    """Declare torchvision's operators if its library can't be loaded; returns whether that was needed.

    Call it before the first import of torchvision. Without torchvision it does nothing.
    """
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    try:
        for library in Path(spec.origin).parent.glob("_C*.so"):
            torch.ops.load_library(str(library))
    except OSError:
        declared = torch.library.Library("torchvision", "FRAGMENT")
        for schema in SCHEMAS:
            declared.define(schema)
        _libraries.append(declared)
        return True
    return False
