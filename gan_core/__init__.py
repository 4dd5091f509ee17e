"""GAN inversion and editing: load networks, invert, tune, edit and measure images, and run recipes over datasets.

The names below are the stable interface of the library; ``docs/library.md`` shows each in use. They are imported at
first use, so that ``import gan_core`` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gan_core.align.crop import align_face as align_face
    from gan_core.align.quad import face_square as face_square
    from gan_core.batching import in_chunks as in_chunks
    from gan_core.checkpoints.files import Card as Card
    from gan_core.checkpoints.files import Loaded as Loaded
    from gan_core.checkpoints.files import save_checkpoint as save_checkpoint
    from gan_core.device import compute_on as compute_on
    from gan_core.editing.apply import apply_edit as apply_edit
    from gan_core.editing.directions import find_direction as find_direction
    from gan_core.editing.directions import load_directions as load_directions
    from gan_core.errors import UserError as UserError
    from gan_core.importers import import_dataset as import_dataset
    from gan_core.inversion.projector import project as project
    from gan_core.inversion.pti import tune_pivots as tune_pivots
    from gan_core.judges.networks import load_network as load_network
    from gan_core.judges.perceptual import load_perceptual as load_perceptual
    from gan_core.loading import load_encoder as load_encoder
    from gan_core.loading import load_generator as load_generator
    from gan_core.metrics.pixel import mse as mse
    from gan_core.metrics.pixel import psnr as psnr
    from gan_core.params import load_params as load_params
    from gan_core.paths.latents import move_latents as move_latents
    from gan_core.paths.stored import load_paths as load_paths
    from gan_core.plain import run_plain as run_plain
    from gan_core.published.layouts import import_checkpoint as import_checkpoint
    from gan_core.recipes.base import plan_run as plan_run
    from gan_core.report import write_report as write_report
    from gan_core.runs.run import load_run as load_run
    from gan_core.storage.images import decode_image as decode_image
    from gan_core.storage.images import to_tensor as to_tensor
    from gan_core.storage.images import to_uint8 as to_uint8
    from gan_core.storage.shards import read_rows as read_rows

_PLACES = {
    "align_face": "align.crop",
    "face_square": "align.quad",
    "in_chunks": "batching",
    "Card": "checkpoints.files",
    "Loaded": "checkpoints.files",
    "save_checkpoint": "checkpoints.files",
    "compute_on": "device",
    "apply_edit": "editing.apply",
    "find_direction": "editing.directions",
    "load_directions": "editing.directions",
    "UserError": "errors",
    "import_dataset": "importers",
    "project": "inversion.projector",
    "tune_pivots": "inversion.pti",
    "load_perceptual": "judges.perceptual",
    "load_encoder": "loading",
    "load_generator": "loading",
    "load_network": "judges.networks",
    "mse": "metrics.pixel",
    "psnr": "metrics.pixel",
    "load_params": "params",
    "load_paths": "paths.stored",
    "move_latents": "paths.latents",
    "run_plain": "plain",
    "import_checkpoint": "published.layouts",
    "plan_run": "recipes.base",
    "write_report": "report",
    "load_run": "runs.run",
    "decode_image": "storage.images",
    "to_tensor": "storage.images",
    "to_uint8": "storage.images",
    "read_rows": "storage.shards",
}

__all__ = sorted(_PLACES)


def __getattr__(name: str) -> object:
    """Import one of the names at its first use (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module 'gan_core' has no attribute {name!r}")
    return getattr(import_module(f"gan_core.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    """List the names before they are imported."""
    return sorted([*globals(), *_PLACES])
