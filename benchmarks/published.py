"""Whether a published run comes out the same here: ``python -m benchmarks.published FOLDER``.

``FOLDER`` holds ``run.npz``, what the published code was given and made (``docs/checkpoints.md`` lists its arrays), and
the checkpoint beside it. The checkpoint and the pictures are imported and a run is made of them, as ``edit-dataset
checkpoints import`` (``--any-generator`` where ``generator`` names another file), ``import``, ``directions import`` and
``run`` do; the settings are printed. Latents are compared relative to the largest, pictures in levels of grey (of 255),
and names by the rows' keys. The status is 1 if latents differ by more than 1e-4, pictures by more than one level, or a
name is missing.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from benchmarks.harness import print_result
from gan_core.checkpoints.files import read_card
from gan_core.geometry import framed_like
from gan_core.importers import import_dataset
from gan_core.params import Params, load_params
from gan_core.plain import run_plain
from gan_core.published.directions import Source, import_direction
from gan_core.published.layouts import import_checkpoint
from gan_core.published.pairing import pair_encoder
from gan_core.recipes.base import plan_params
from gan_core.rows import Row
from gan_core.runs.run import Run
from gan_core.storage.images import MAX_PIXELS, decode_image
from gan_core.storage.shards import read_rows

RUN = "run.npz"
LATENTS, LEVELS = 1e-4, 1.0
"""The largest differences that count as equal: of latents, relative, and of pictures, in levels of grey."""
DIRECTION = "published"
"""The name under which a direction is imported."""
COLUMNS = {"pictures": ("encode", "reconstruction"), "tuned": ("tune", "tuned"), "edited": ("edit", "")}
"""Stage and column of what an array of pictures is compared with."""

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Stored:
    """A published run: its folder, the arrays of ``run.npz`` and the settings among them."""

    folder: Path
    arrays: Arrays
    settings: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> "Stored":
        """Read the run of a folder; raises ``SystemExit`` with a line if it has none, or one that isn't complete."""
        if not (folder / RUN).is_file():
            raise SystemExit(f"{folder} has no {RUN}: docs/checkpoints.md says what it holds")
        with np.load(folder / RUN, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if missing := sorted({"names", "inputs", "latents", "pictures", "settings"} - set(arrays)):
            raise SystemExit(f"{folder / RUN} has no {', '.join(missing)}: docs/checkpoints.md says what it holds")
        return cls(folder, arrays, json.loads(str(arrays["settings"])))

    @property
    def names(self) -> list[str]:
        """The names of the pictures, in the order of the arrays."""
        return [str(name) for name in self.arrays["names"]]


def import_models(stored: Stored, work: Path) -> dict[str, str]:
    """Import the checkpoint, and a perceptual network and a direction where there are any; return the settings."""
    models = {f"models.{read_card(path).kind}": path for path in _networks(stored, work / "checkpoint")}
    models["encode.encoder"] = read_card(models["models.encoder"]).name
    if network := stored.settings.get("perceptual"):
        (models["models.perceptual"],) = _imported(stored.folder / network, work / "perceptual", {})
    if "direction" in stored.arrays:
        models["models.directions"] = str(work / "directions.safetensors")
        file = work / f"{DIRECTION}.npy"
        np.save(file, stored.arrays["direction"])
        import_direction(file, models["models.directions"], models["models.generator"], Source("", name=DIRECTION))
    return models


def _networks(stored: Stored, target: Path) -> list[str]:
    """Import encoder and generator: those of one file, or the encoder paired with the generator of another."""
    source, told = stored.folder / stored.settings["checkpoint"], stored.settings.get("import", {})
    if "generator" not in stored.settings:
        return _imported(source, target, told)
    (generator,) = _imported(stored.folder / stored.settings["generator"], target, {})
    (encoder,) = pair_encoder(source, target.with_name("encoder.safetensors"), generator, any_generator=True, **told)
    print(read_card(encoder).notes)
    return [generator, encoder]


def _imported(source: Path, target: Path, told: dict[str, Any]) -> list[str]:
    return list(import_checkpoint(source, target.with_suffix(".safetensors"), **told))


def settings_of(stored: Stored, models: dict[str, str]) -> dict[str, Any]:
    """What the run is made with, laid over ``params.yaml``: pictures are taken whole unless ``set`` says otherwise."""
    edits = [{"direction": DIRECTION, "strengths": [stored.settings.get("strength", 1.0)]}]
    return {
        **models,
        "run.workers": 1,
        "align.landmarks": "aligned",
        "tune.enabled": "tuned" in stored.arrays,
        "edits": edits if "direction" in stored.arrays else [],
        "measure.metrics": ["mse"],
        **stored.settings.get("set", {}),
    }


def make_run(stored: Stored, work: Path, params: Params) -> Run:
    """Import the pictures under their names, and take them through all stages."""
    (work / "files").mkdir()
    for name, pixels in zip(stored.names, stored.arrays["inputs"], strict=True):
        (work / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(work / "files" / name, "PNG")
    import_dataset(str(work / "files"), str(work / "data"))
    plan = plan_params(params, str(work / "data"), str(work / "run"))
    run_plain(plan)
    return plan.run


def rows_of(run: Run, stage: str) -> dict[str, Row]:
    """Return the finished rows of a stage by key."""
    rows = (row for shard in run.stage_shards(stage) for batch in read_rows(shard) for row in batch)
    return {row["key"]: row for row in rows if row["status"] == "ok"}


def compare(stored: Stored, run: Run) -> dict[str, float]:
    """Return how many names were found, and the largest difference of each array that the published run has."""
    encoded = rows_of(run, "encode")
    names = [(i, name) for i, name in enumerate(stored.names) if name in encoded]
    found = {"rows": float(len(stored.names)), "names": float(len(names))}
    if not names:
        return found
    ours = np.stack([encoded[name]["latent"] for _, name in names])
    theirs = _per_layer(stored.arrays["latents"][[i for i, _ in names]], ours.shape[1])
    found["latents"] = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    for array, (stage, column) in COLUMNS.items():
        if array in stored.arrays:
            rows = rows_of(run, stage)
            cell = column or next(name for name in rows[names[0][1]] if name.startswith(f"{DIRECTION}@"))
            found[array] = max(levels(rows[name][cell], stored.arrays[array][i]) for i, name in names)
    return found


def _per_layer(latents: NDArray[Any], count: int) -> NDArray[Any]:
    """Return latents ``[N, count, w_dim]`` of those of W ``[N, w_dim]``, and of more than the generator takes."""
    return latents[:, None] if latents.ndim == 2 else latents[:, :count]


def levels(cell: Row, published: NDArray[Any]) -> float:
    """Return the largest difference of a picture from the published one in levels of grey.

    Published pictures are ``uint8 [H, W, 3]``, or float ``[3, H, W]`` around [-1, 1]. If one is a square and the other
    not, its frame is compared; the larger one is averaged down.
    """
    pixels = np.asarray(decode_image(cell["bytes"], MAX_PIXELS))
    ours, theirs = _grey(pixels), _grey(published)
    if ours.shape[2] * ours.shape[3] < theirs.shape[2] * theirs.shape[3]:
        theirs = framed_like(theirs, ours)
    else:
        ours = framed_like(ours, theirs)
    return float((ours - theirs).abs().max())


def _grey(picture: NDArray[Any]) -> Tensor:
    if picture.dtype == np.uint8:
        return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].double()
    return torch.from_numpy(picture.copy())[None].double().add(1).mul(127.5).clamp(0, 255)


def is_equal(found: Mapping[str, float]) -> bool:
    """Whether every name was found and no difference is beyond the largest that counts as equal."""
    pictures = [found[name] for name in COLUMNS if name in found]
    whole = found["names"] == found["rows"] > 0
    return whole and found["latents"] <= LATENTS and max(pictures, default=0.0) <= LEVELS


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare and print; ends with status 1 if something differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    stored = Stored.read(parser.parse_args(arguments).folder)
    with TemporaryDirectory() as name:
        settings = settings_of(stored, import_models(stored, Path(name)))
        print("\n".join(f"--set {key}={json.dumps(value)}" for key, value in settings.items()), flush=True)
        found = compare(stored, make_run(stored, Path(name), load_params(overrides=settings)))
    for array, value in found.items():
        print(f"{array:10} {value:.4g}")
    print_result(**found, equal=float(is_equal(found)))
    if not is_equal(found):
        sys.exit(1)


if __name__ == "__main__":
    main()
