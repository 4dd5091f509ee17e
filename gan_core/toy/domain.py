"""What the project's encoders and generator reach: limits fitted to portraits that no network has learned from.

``python -m gan_core.toy.domain`` writes them to ``models.domain``.
"""

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from gan_core.encoders.base import ENCODERS
from gan_core.judges.domain import Domain, write_domains
from gan_core.params import load_params
from gan_core.plain import run_plain
from gan_core.recipes.base import plan_run
from gan_core.recipes.outliers import fit_domain
from gan_core.storage.shards import shard_name
from gan_core.toy.sample import write_shard

FIRST_SEED = 30_000_000
SHARDS, ROWS = 4, 125
"""500 portraits: of others of their kind one in 501 is expected beyond the largest distance."""
CHOSEN = {"tune.enabled": False, "edits": [], "measure.metrics": ["lpips", "mse"], "run.workers": SHARDS}


def write_portraits(folder: str) -> None:
    """Write plain portraits in the wild, in colour: no files that are unusual, as the sample has."""
    seeds = [FIRST_SEED + i * ROWS for i in range(SHARDS)]
    keys = [[f"portraits/{seed + i}.png" for i in range(ROWS)] for seed in seeds]
    urls = [f"{folder}/{shard_name(i)}" for i in range(SHARDS)]
    with ProcessPoolExecutor(SHARDS) as pool:
        list(pool.map(write_shard, urls, keys, seeds))


def fit_all(folder: str) -> list[Domain]:
    """Run every encoder that has a checkpoint over the portraits, in ``folder``, and fit its limits."""
    source, output = f"{folder}/portraits", f"{folder}/run"
    write_portraits(source)
    domains = []
    for name in ENCODERS.names():
        overrides = CHOSEN | {"encode.encoder": name}
        if Path(load_params(overrides=overrides).models.encoder).is_file():
            plan = plan_run(source, output, overrides=overrides, update=True)
            run_plain(plan)
            domains.append(fit_domain(plan.run).model_copy(update={"source": f"toy portraits from {FIRST_SEED}"}))
    return domains


def main() -> None:
    """Write the limits of the project's encoders."""
    with TemporaryDirectory() as folder:
        write_domains(load_params().models.domain, fit_all(folder))


if __name__ == "__main__":
    main()
