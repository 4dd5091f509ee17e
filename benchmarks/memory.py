"""Whether memory grows with the dataset: ``python -m benchmarks.memory``.

The flow, without tuning, over 512 and over 4,096 images in shards of 128, each in a process of its own. The peak is
``VmHWM`` of that process: its resident memory at the highest, the Prefect server not included.
"""

import argparse
import subprocess
import sys
from tempfile import TemporaryDirectory

from benchmarks.harness import print_result, services
from gan_core.probe import peak_mb

SHARD_ROWS = 128


def run_flow(images: int, folder: str) -> None:
    """Run the flow over new portraits and print the peak of this process."""
    from flows.edit_dataset import edit_dataset

    edit_dataset(f"{folder}/source-{images}", f"{folder}/run-{images}", overrides={"tune.enabled": False})
    print(f"peak {peak_mb():.1f}")


def write_source(images: int, folder: str) -> None:
    """Write a dataset of ``images`` portraits."""
    from gan_core.toy.params import SampleParams
    from gan_core.toy.sample import write_sample

    write_sample(f"{folder}/source-{images}", SampleParams(rows=images, shards=max(images // SHARD_ROWS, 1)))


def measure(images: int, folder: str) -> float:
    """Return the peak in MB of a flow over ``images`` portraits, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", "--in", folder, "--images", str(images)]
    subprocess.run([*command, "--write"], check=True)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    peak = float(done.stdout.rsplit("peak ", 1)[1])
    print(f"{images:5d} images: {peak:7.1f} MB", flush=True)
    return peak


def main() -> None:
    """Measure and print; with ``--in`` be one of the processes that are measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[512, 4096])
    parser.add_argument("--in", dest="folder", help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        (write_source if options.write else run_flow)(options.images[0], options.folder)
        return
    with TemporaryDirectory() as folder, services(folder):
        few, many = (measure(images, folder) for images in options.images)
    print_result(rss_ratio=many / few, few_mb=few, many_mb=many)


if __name__ == "__main__":
    main()
