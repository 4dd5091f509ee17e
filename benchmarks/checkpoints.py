"""How safely and how fast checkpoints are read: ``python -m benchmarks.checkpoints``.

First a set of damaged and hostile files is offered for import, each of which must be refused without anything in it
being run. Then the tensors of a StyleGAN2 at 1024 px (random weights) are read from one file by our reader and by
plain ``torch.load``, from a warm page cache, the best of several rounds each; the whole import, which also checks
every number, writes safetensors and hashes both files, is timed beside it.
"""

import argparse
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.harness import print_result, shortest
from benchmarks.hostile_files import hostile_files, write_file
from gan_core.checkpoints.containers import open_checkpoint
from gan_core.errors import CheckpointError
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.published.layouts import import_checkpoint


def count_refused(folder: Path) -> tuple[int, int]:
    """Offer each hostile file and return how many were refused in one line with nothing run, and of how many."""
    os.chdir(folder)
    files = hostile_files()
    refused = 0
    for name, content in files.items():
        path = write_file(folder, name, content)
        try:
            import_checkpoint(path, "target.safetensors")
            print(f"ACCEPTED {name}", flush=True)
        except CheckpointError as error:
            untouched = not Path("pwned").exists() and not Path("target.safetensors").exists()
            refused += untouched and "\n" not in str(error)
    return refused, len(files)


def touched(content: Any) -> float:
    """Use every number, so that lazily read files are really read."""
    return sum(float(tensor.sum()) for tensor in content["g_ema"].values())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        refused, total = count_refused(Path(folder))
        print(f"{refused} of {total} hostile files refused, nothing run", flush=True)
        path = Path(folder) / "good.pt"
        torch.save({"g_ema": StyleGAN2(options.size).state_dict(), "latent_avg": torch.zeros(512)}, path)
        gigabytes = path.stat().st_size / 1e9
        ours = shortest(lambda: touched(open_checkpoint(path).load()), options.rounds)
        plain = shortest(lambda: touched(torch.load(path, weights_only=True)), options.rounds)
        whole = shortest(lambda: import_checkpoint(path, Path(folder) / "good.safetensors"), 1)
    print(f"{gigabytes:.3f} GB: ours {gigabytes / ours:.2f} GB/s, torch.load {gigabytes / plain:.2f} GB/s")
    print(f"whole import with checks, hashes and writing: {whole:.2f} s, {gigabytes / whole:.2f} GB/s")
    print_result(
        hostile_refused=refused,
        hostile_total=total,
        import_ratio=plain / ours,
        read_gb_per_s=gigabytes / ours,
        torch_load_gb_per_s=gigabytes / plain,
        whole_import_gb_per_s=gigabytes / whole,
    )


if __name__ == "__main__":
    main()
