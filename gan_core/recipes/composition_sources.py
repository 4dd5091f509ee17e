"""The sources of compositions: rows of an encoded dataset, or seeds, by key."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from gan_core.checkpoints.files import Loaded
from gan_core.errors import CheckpointError, DataError, ParamsError, near_matches
from gan_core.generators.base import Generator
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.runs.run import is_run, load_run
from gan_core.storage.shards import list_shards, open_shard, read_rows, unnest

SEEDS = "seeds:"
MOST_SEEDS = 1_000_000
"""All their keys are held in memory."""


class Sources(ABC):
    """Latents by key; ``keys`` can be used, ``failed`` are others with the reason why not."""

    keys: list[str]
    failed: dict[str, str]

    @abstractmethod
    def latents(self, keys: Sequence[str]) -> dict[str, Tensor]:
        """Latents ``[n_latent, w_dim]`` of the given usable keys."""

    def boxes(self, column: str) -> dict[str, list[list[float]]]:
        """Boxes by key from a column of the dataset; raises ``ParamsError`` where there is none."""
        raise ParamsError(f"compose: seeds have no column {column!r}: give boxes")

    def check(self, key: str) -> None:
        """Raise ``ParamsError`` with near matches for an unknown key."""
        if key not in self.failed and key not in self._known:
            raise ParamsError(f"compose: no source {key!r}{near_matches(key, self.keys)}")

    @cached_property
    def _known(self) -> set[str]:
        return set(self.keys)


class Seeds(Sources):
    """``seeds:64`` (or ``seeds:64@1000`` to begin at 1000): random codes, truncated by ``psi``, one for each seed."""

    def __init__(self, text: str, generator: Generator, psi: float) -> None:
        asked = re.fullmatch(r"([0-9]{1,18})(?:@([0-9]{1,18}))?", text.removeprefix(SEEDS))
        number, start = (int(part or 0) for part in asked.groups()) if asked else (0, 0)
        if not 1 <= number <= MOST_SEEDS:
            raise ParamsError(
                f"{text[:80]}: write seeds:NUMBER or seeds:NUMBER@FIRST, such as seeds:64, with at most {MOST_SEEDS:,}"
            )
        self.keys = [f"seed-{seed}" for seed in range(start, start + number)]
        self.failed = {}
        self.generator, self.psi = generator, psi

    @torch.no_grad()
    def latents(self, keys: Sequence[str]) -> dict[str, Tensor]:
        return {key: self._latent(int(key.removeprefix("seed-"))) for key in keys}

    def _latent(self, seed: int) -> Tensor:
        z = torch.randn(1, self.generator.z_dim, generator=torch.Generator().manual_seed(seed))
        z = z.to(self.generator.latent_avg.device)
        w = self.generator.truncate(self.generator.mapping(z), self.psi)
        return self.generator.broadcast(w)[0].contiguous()


class Encoded(Sources):
    """The encoded rows of a run, or of a folder of shards with a column ``latent``."""

    def __init__(self, source: str, generator_sha256: str) -> None:
        self.dataset = source
        self._boxes: dict[str, dict[str, list[list[float]]]] = {}
        if is_run(source):
            encoded = load_run(source)
            if "encode" not in encoded.stages:
                raise DataError(f"{source} is a run of {encoded.recipe}, which encodes nothing: name one that does")
            made_for = encoded.identities.get("encode", {}).get("generator_sha256")
            if made_for not in (None, generator_sha256):
                raise CheckpointError(
                    f"{source} was encoded for the generator {str(made_for)[:12]}, not for that of models.generator "
                    f"({generator_sha256[:12]}): run it again or name the generator that it was made with"
                )
            for shard in encoded.shards:
                encoded.require_receipt("encode", shard)
            self.dataset, self.shards = encoded.source, encoded.stage_shards("encode")
        else:
            self.shards = list_shards(source)
        self.keys, self.failed = [], {}
        total = 0
        for shard in self.shards:
            _check_columns(shard)
            for rows in read_rows(shard, ["key", "status", "reason"]):
                total += len(rows)
                self.keys += [row["key"] for row in rows if row["status"] == "ok"]
                self.failed |= {
                    row["key"]: f"{row['status']}: {row['reason']}" for row in rows if row["status"] != "ok"
                }
        if len(known := {*self.keys, *self.failed}) != total or None in known:
            raise DataError(f"{source} has rows without a key, or two of one key: give each row a key of its own")

    def latents(self, keys: Sequence[str]) -> dict[str, Tensor]:
        wanted = set(keys)
        found: dict[str, Tensor] = {}
        for shard in self.shards:
            for rows in read_rows(shard, ["key", "latent"]):
                found |= {row["key"]: torch.from_numpy(row["latent"]) for row in rows if row["key"] in wanted}
        return found

    def boxes(self, column: str) -> dict[str, list[list[float]]]:
        if column not in self._boxes:
            shards = list_shards(self.dataset)
            for shard in shards:
                _check_boxes(shard, column)
            rows = (row for shard in shards for part in read_rows(shard, ["key", column]) for row in part)
            self._boxes[column] = {row["key"]: _box_list(row[column]) for row in rows if row[column] is not None}
        return self._boxes[column]


def _box_list(cell: Any) -> list[list[float]]:
    """A box, or a list of boxes; what is missing in them is NaN, which no box has."""
    boxes = cell if len(cell) and (cell[0] is None or np.ndim(cell[0])) else [cell]
    return [[np.nan if side is None else float(side) for side in ([] if box is None else box)] for box in boxes]


def _check_boxes(shard: str, column: str) -> None:
    """Raise ``DataError`` for a column whose type is neither a list of numbers nor a list of such lists."""
    with open_shard(shard) as file:
        schema = file.schema_arrow
    if column not in schema.names:
        return  # reading it says which columns there are
    sizes, leaf = unnest(kind := schema.field(column).type)
    numbers = pa.types.is_floating(leaf) or pa.types.is_integer(leaf) or pa.types.is_null(leaf)
    if not pa.types.is_null(kind) and not (len(sizes) in (1, 2) and numbers):
        raise DataError(f"the column {column!r} of {shard} holds {kind}, not boxes: lists of four numbers, or several")


def open_sources(source: str, generator: Loaded[StyleGAN2], psi: float) -> Sources:
    """Open ``source``: ``seeds:N``, a run's folder, or encoded shards; raises ``UserError``."""
    if source.startswith(SEEDS):
        return Seeds(source, generator.model, psi)
    return Encoded(source, generator.sha256)


def _check_columns(shard: str) -> None:
    with open_shard(shard) as file:
        names = file.schema_arrow.names
    if "latent" not in names:
        raise DataError(f"{shard} has no column latent: name a run of `edit-dataset run`, or seeds:NUMBER")
