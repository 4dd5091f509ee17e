"""The names of columns and totals, ``<metric>[/<extractor>]/<picture>``, and what each of them means."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gan_core.editing.planned import PlannedEdit
from gan_core.meaning import Meaning
from gan_core.metrics.base import METRICS, ScoreName

OLD_NAME = re.compile(r"(lpips|identity)_([^/]+)/|([^/]+)_(fairface|hopenet|celeba-5)/")
"""Names with an underscore before the extractor (``lpips_toy/encoded``), as runs before this release have them."""


@dataclass(frozen=True)
class Score:
    """A number by its name, taken apart, with its meaning."""

    name: str
    metric: str
    extractor: str
    picture: str
    meaning: Meaning

    def of(self, picture: str) -> str:
        """Return the name of the same number of another picture."""
        return "/".join(part for part in (self.metric, self.extractor, picture) if part)


def normal_name(name: str) -> str:
    """Return what a column or total is called now; every reader of stored names asks this function.

    A metric of another package that is itself called ``identity_...`` keeps its name.
    """
    old = OLD_NAME.match(name)
    if old is None or any(metric.name == name.partition("/")[0] for _, metric in METRICS):
        return name
    metric, extractor = (part for part in old.groups() if part)
    return f"{metric}/{extractor}/{name[old.end() :]}"


def split_name(name: str, edits: Sequence[PlannedEdit] = ()) -> ScoreName:
    """Take a name apart; of a name in one part the picture is empty. An edit's column may itself have slashes."""
    columns = [edit.column for edit in edits if name.endswith(f"/{edit.column}")]
    picture = max(columns, key=len) if columns else name.rpartition("/")[2] if "/" in name else ""
    metric, _, extractor = name.removesuffix(f"/{picture}").partition("/")
    return ScoreName(metric, extractor, picture)


def find_score(name: str, edits: Sequence[PlannedEdit] = ()) -> Score:
    """Return a number's parts and meaning; one whose metric isn't installed is labelled with its name as it is.

    ``edits`` are those of its run: they tell which columns are changes of an attribute.
    """
    parts = split_name(name, edits)
    found = (metric.explain(parts, edits) for _, metric in METRICS)
    meaning = next((meaning for meaning in found if meaning is not None), None)
    return Score(name, *parts, meaning or Meaning(name.removesuffix(f"/{parts.picture}")))
