"""The page of ``edit-dataset view`` over 100,000 rows: seconds to open it, to filter, to turn a page, and memory.

``python -m benchmarks.view [--rows 100000]`` writes shards of random scores and small pictures, and asks the page's own
application, as a browser would.
"""

import argparse
import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from fastapi.testclient import TestClient

from benchmarks.harness import print_result
from flows.viewer import make_app
from gan_core.params import Params
from gan_core.runs.run import Run, begin_run, load_run
from gan_core.storage.images import encode_png, image_value
from gan_core.storage.shards import IMAGE, ShardWriter, shard_name

SHARD = 1000
SCORES = 24
"""As many as a run with three edits measures."""
SIDE = 64
REPEATS = 9


def write_run(folder: Path, rows: int) -> str:
    """Write a run of two stages, pictures and scores, and return its folder."""
    draw = np.random.default_rng(0)
    names = [f"score-{i}" for i in range(SCORES)]
    pictures = [image_value(encode_png(draw.integers(0, 256, (SIDE, SIDE, 3), np.uint8)), "x.png") for _ in range(16)]
    counts = {shard_name(i): min(SHARD, rows - i * SHARD) for i in range(-(-rows // SHARD))}
    run = Run(Params(), str(folder / "source"), str(folder / "run"), counts, {"edit": {}, "measure": {}})
    begin_run(run)
    fields = {"edit": [pa.field("smile@+1", IMAGE)], "measure": [pa.field(name, pa.float32()) for name in names]}
    for shard, count in counts.items():
        keys = [f"faces/{shard[6:11]}-{i:04}.png" for i in range(count)]
        values = draw.normal(size=(count, SCORES)).astype(np.float32)
        for stage, columns in fields.items():
            with ShardWriter(run.shard(stage, shard), columns) as writer:
                for i, key in enumerate(keys):
                    failed = i % 50 == 0
                    said = (
                        {"status": "no_face", "reason": "no face was found"}
                        if failed
                        else {"status": "ok", "reason": ""}
                    )
                    cells = {"smile@+1": pictures[i % 16]} | dict(zip(names, values[i].tolist(), strict=True))
                    made = {} if failed else {column.name: cells[column.name] for column in columns}
                    writer.write([{"key": key, "stage": stage, **said, **made}])
    return run.output


def median_s(client: TestClient, path: str) -> float:
    """The median time of an answer, after one that is not counted."""
    times = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        client.get(path).raise_for_status()
        times.append(time.perf_counter() - started)
    return float(np.median(times[1:]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    with TemporaryDirectory() as folder:
        output = write_run(Path(folder), rows)
        started = time.perf_counter()
        client = TestClient(make_app([load_run(output)]), base_url="http://127.0.0.1")
        client.get("/api/about").raise_for_status()
        client.get("/api/rows?score=score-0").raise_for_status()
        opened = time.perf_counter() - started
        scored = "score=score-3&sort=score-3&descending=true"
        filtered = median_s(client, f"/api/rows?{scored}&limit=score-3|-1|1&limit=score-5|0|2&status=ok&text=-00")
        turned = median_s(client, f"/api/rows?{scored}&page=2000")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{rows:,} rows, {SCORES} scores: open {opened:.2f} s, filter {filtered:.3f} s, "
        f"a page {turned:.3f} s, {peak:.0f} MB"
    )
    print_result(rows=rows, open_s=opened, filter_s=filtered, page_s=turned, rss_mb=peak)


if __name__ == "__main__":
    main()
