"""The production path at the published size: ``python -m benchmarks.full_size``.

Files in the published layouts, with random weights in them (pSp on IR-SE-50 with its StyleGAN2 of 1024 px, ArcFace,
AlexNet), are imported; then pictures larger than that go through align, encode, tune, edit, paste and measure in a
process of its own. It prints the time of each stage and the highest resident memory of that process (``VmHWM``).
``--probe`` first chooses the batch sizes as ``edit-dataset run --probe`` does.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.harness import print_result
from gan_core.editing.directions import Direction, save_directions
from gan_core.encoders.psp import GradualStyleEncoder
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.importers import import_dataset
from gan_core.judges.networks import NETWORKS
from gan_core.judges.trunks import TRUNKS
from gan_core.loading import load_generator
from gan_core.params import load_params
from gan_core.probe import peak_mb, probe_settings
from gan_core.published.layouts import import_checkpoint

SMALL = {"style_dim": 32, "n_mlp": 2, "channels": {4: 32, 8: 32, 16: 16, 32: 16, 64: 16}}
SMALL_ENCODER = {"n_latent": 10, "style_dim": 32, "input_size": 64, "units": [1, 1, 1, 1], "width": 8}
FULL = 1024
ARGUMENTS: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {
    64: (SMALL, SMALL_ENCODER),
    256: ({}, {"n_latent": 14}),
    FULL: ({}, {}),
}
"""Of generator and encoder; 64 is for trying it out, the others are as published. ArcFace is measured at 1024 only."""
SETTINGS = "settings.json"


def write_published(folder: Path, size: int) -> list[Path]:
    """Write the files as they are published, with random weights."""
    torch.manual_seed(0)
    of_generator, of_encoder = ARGUMENTS[size]
    generator, encoder = StyleGAN2(size, **of_generator), GradualStyleEncoder(**of_encoder)
    state = {f"encoder.{key}": value for key, value in encoder.state_dict().items()}
    state |= {f"decoder.{key}": value for key, value in generator.state_dict().items()}
    options = {"encoder_type": "GradualStyleEncoder", "output_size": size, "start_from_latent_avg": True}
    average = torch.zeros(generator.n_latent, generator.w_dim)
    alexnet = {key.split(".", 1)[1]: value for key, value in TRUNKS.get("alex")().state_dict().items()}
    contents = {
        "psp.pt": {"state_dict": state, "opts": options, "latent_avg": average},
        "alexnet.pth": {f"features.{key}": value for key, value in alexnet.items()},
    }
    if size == FULL:
        contents["arcface.pth"] = NETWORKS.get("arcface-ir-se50")().state_dict()
    for name, content in contents.items():
        torch.save(content, folder / name)
    return [folder / name for name in contents]


def import_models(folder: Path, size: int) -> dict[str, str]:
    """Write and import the files, make a direction, and return the settings ``models.*``."""
    for file in write_published(folder, size):
        import_checkpoint(file, file.with_suffix(".safetensors"), licence="random weights")
        file.unlink()
    models = {
        "generator": "psp.generator",
        "encoder": "psp.encoder",
        "perceptual": "alexnet",
        "directions": "directions",
    }
    models |= {"identity": "arcface"} if size == FULL else {}
    paths = {name: str(folder / f"{file}.safetensors") for name, file in models.items()}
    generator = load_generator(paths["generator"])
    vector = torch.randn(generator.model.w_dim, generator=torch.Generator().manual_seed(0))
    direction = Direction("smile", vector / vector.norm(), generator.sha256)
    save_directions(paths["directions"], [direction], made_by="benchmarks.full_size")
    return {f"models.{name}": path for name, path in paths.items()}


def write_photographs(folder: Path, rows: int, size: int) -> str:
    """Import ``rows`` smooth random JPEGs, a little larger than ``size``, and return the dataset's folder."""
    (folder / "files").mkdir()
    for row in range(rows):
        coarse = np.random.default_rng(row).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((size * 4 // 3, size + 40), Image.Resampling.BICUBIC)
        image.save(folder / "files" / f"{row:03}.jpg", quality=92)
    import_dataset(str(folder / "files"), str(folder / "photographs"))
    return str(folder / "photographs")


def settings(models: dict[str, str], size: int, steps: int) -> dict[str, Any]:
    """What differs from ``params.yaml``."""
    return models | {
        "run.workers": 1,
        "run.batch_size": 2,
        "align.landmarks": "centre",
        "align.size": size,
        "align.transform_size": size,
        "tune.steps": steps,
        "tune.batch_size": 2,
        "edits": [{"direction": "smile", "strengths": [-1, 1]}],
        "paste.enabled": True,
        "measure.metrics": ["mse", "psnr", "lpips", "swd", *(["identity"] if size == FULL else [])],
        "measure.swd_images": 64,
    }


def run_flow(folder: Path, overrides: dict[str, Any]) -> dict[str, float]:
    """Run the chain; seconds by stage, of all of it, and the peak of this process in MB."""
    from gan_core.pages.stages import summarise_stages
    from gan_core.plain import run_plain
    from gan_core.recipes.base import plan_run

    begin = time.perf_counter()
    plan = plan_run(str(folder / "photographs"), str(folder / "run"), overrides=overrides)
    run_plain(plan)
    seconds = {stage.name: stage.seconds for stage in summarise_stages(plan.run)}
    return seconds | {"all": time.perf_counter() - begin, "peak_mb": peak_mb()}


def main() -> None:
    """Measure and print; with ``--in`` be the process that is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, choices=ARGUMENTS, default=FULL)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--steps", type=int, default=2, help="of tuning")
    parser.add_argument("--probe", action="store_true", help="choose the batch sizes by trial")
    parser.add_argument("--in", dest="folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        folder = Path(options.folder)
        print_result(**run_flow(folder, json.loads((folder / SETTINGS).read_text())))
        return
    with TemporaryDirectory() as name:
        begin = time.perf_counter()
        models = import_models(Path(name), options.size)
        write_photographs(Path(name), options.rows, options.size)
        print(f"models and pictures written and imported in {time.perf_counter() - begin:.0f} s", flush=True)
        overrides = settings(models, options.size, options.steps)
        if options.probe:
            overrides |= probe_settings(
                load_params(overrides=overrides), f"{name}/run", lambda line: print(line, flush=True)
            )
        (Path(name) / SETTINGS).write_text(json.dumps(overrides))
        subprocess.run([sys.executable, "-m", "benchmarks.full_size", "--in", name], check=True)


if __name__ == "__main__":
    main()
