"""What the trials of ``benchmarks.faults`` break: a small dataset, a finished run, good files; and what is bounded."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.hostile_files import whole_files
from gan_core.errors import MAX_LETTERS, UserError
from gan_core.plain import run_plain
from gan_core.recipes.base import plan_run
from gan_core.runs.run import load_run
from gan_core.storage.shards import BASE_NAMES, ShardWriter, open_shard, read_rows, shard_name

SAMPLE = "data/sample/shard-00000.parquet"
CHOSEN: dict[str, Any] = {
    "run.workers": 1,
    "tune.enabled": False,
    "measure.metrics": ["mse"],
    "edits": [{"direction": "smile", "strengths": [1]}],
}
SHARDS, ROWS = 2, 2
SECONDS = 10
"""Of the processor, for one hostile file."""
COMMAND = """
import json, sys
from gan_core.errors import UserError
from gan_core.plain import run_plain
from gan_core.recipes.base import plan_run
try:
    run_plain(plan_run(sys.argv[1], sys.argv[2], overrides=json.loads(sys.argv[3]), update=True))
except UserError as error:
    sys.exit(f"error: {error}")
"""


class Bench:
    """A small dataset, a finished run over it, and room for what trials break."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.source, self.whole = folder, f"{folder}/source", folder / "whole"
        fields = [f for f in _schema(SAMPLE) if f.name not in BASE_NAMES]
        self.rows = [row for part in read_rows(SAMPLE) for row in part][: SHARDS * ROWS]
        for i in range(SHARDS):
            with ShardWriter(f"{self.source}/{shard_name(i)}", fields) as writer:
                writer.write(self.rows[i * ROWS : (i + 1) * ROWS])
        begin = time.monotonic()
        self.finish(self.whole)
        self.hashes, self.seconds = hashes(self.whole), time.monotonic() - begin
        self.files = whole_files()

    @contextmanager
    def room(self) -> Iterator[Path]:
        """An empty folder that is removed afterwards."""
        room = self.folder / "room"
        shutil.rmtree(room, ignore_errors=True)
        room.mkdir()
        yield room

    def finish(self, output: Path) -> None:
        """Run the dataset into a folder."""
        run_plain(plan_run(self.source, str(output), overrides=CHOSEN, update=True))

    def start(self, output: Path) -> subprocess.Popen[str]:
        """Run it in a process of its own."""
        command = [sys.executable, "-c", COMMAND, self.source, str(output), json.dumps(CHOSEN)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _schema(shard: str) -> Any:
    with open_shard(shard) as file:
        return file.schema_arrow


def hashes(output: Path) -> dict[str, str]:
    """The sha256 of every shard of a run, as its receipts say."""
    run = load_run(str(output))
    return {f"{s}/{n}": run.require_receipt(s, n).output_sha256 for s in run.stages for n in run.shards}


def bounded(read: Callable[[], object]) -> bool:
    """Whether something hostile was read; a refusal must be one short line, and both must be quick."""
    begin = time.process_time()
    try:
        read()
        told = None
    except UserError as error:
        told = str(error)
    assert time.process_time() - begin < SECONDS, f"took {time.process_time() - begin:.0f} s of the processor"
    assert told is None or is_short(told), f"is no short line: {told!r:.200}"
    return told is None


def is_short(text: str) -> bool:
    """Whether a text is one line of as many letters as an error may have."""
    return len(text) <= MAX_LETTERS and text.isprintable()
