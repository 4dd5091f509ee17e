"""Rows of the dataset that edits refer to by key, as latents."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from gan_core.device import place_array
from gan_core.errors import ParamsError, near_matches
from gan_core.rows import Rejected, Row, composed
from gan_core.runs.stage import Stage
from gan_core.storage.shards import list_shards, read_rows


class SourceLatents:
    """Aligns and encodes rows of the source as the run does with its own, whatever shard they are in.

    ``stages`` builds the stages that a row goes through, the first reading the source and the last giving ``latent``;
    it is called at the first use. Latents are remembered by key.
    """

    def __init__(self, source: str, stages: Callable[[], Sequence[Stage]]) -> None:
        self.source = source
        self._stages = stages
        self._known: dict[str, Tensor] = {}

    def __call__(self, keys: Sequence[str]) -> Tensor:
        """Latents ``[K, n_latent, w_dim]`` of the rows ``keys``; raises ``ParamsError`` for one that has none."""
        wanted = [key for key in dict.fromkeys(keys) if key not in self._known]
        if wanted:
            self._encode(self._find(wanted))
        return torch.stack([self._known[key] for key in keys])

    def _find(self, keys: Sequence[str]) -> dict[str, Row]:
        """Return the rows of the keys; one that is there in another Unicode form only is found, too."""
        found: dict[str, Row] = {}
        alike: dict[str, Row] = {}
        forms = {composed(key): key for key in keys}
        seen: list[str] = []
        for shard in list_shards(self.source):
            for rows in read_rows(shard):
                seen += [row["key"] for row in rows]
                found |= {row["key"]: row for row in rows if row["key"] in keys}
                alike |= {forms[form]: row for row in rows if (form := composed(row["key"])) in forms}
                if len(found) == len(keys):
                    return found
        found = alike | found
        if absent := next((key for key in keys if key not in found), None):
            raise ParamsError(f"references: no row {absent!r} in {self.source} to refer to{near_matches(absent, seen)}")
        return found

    def _encode(self, rows: dict[str, Row]) -> None:
        stages = self._stages()
        for key, row in rows.items():
            for stage in stages:
                if row["status"] == "ok":
                    row = _advance(stage, row)
            if row["status"] != "ok":
                raise ParamsError(
                    f"references: the row {row['key']!r} can't be referred to: {row['status']}, {row['reason']}"
                )
            self._known[key] = place_array(np.array(row["latent"], dtype=np.float32))


def _advance(stage: Stage, row: Row) -> Row:
    (made,) = stage.process([row])
    return row | ({"status": made.status, "reason": made.reason} if isinstance(made, Rejected) else made)
