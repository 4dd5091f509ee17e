"""The names of columns and totals, ``<metric>[/<extractor>]/<picture>``, and what each of them means."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gan_core.editing.planned import PlannedEdit
from gan_core.errors import ParamsError, near_matches
from gan_core.meaning import Meaning
from gan_core.metrics.base import ENCODED, METRICS, TUNED, RowMetric, ScoreName

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


def find_columns(said: str, names: Iterable[str], edits: Sequence[PlannedEdit] = ()) -> list[str]:
    """Return those of the score columns ``names`` that a whole or a short name says; raises ``ParamsError`` for none.

    A short name leaves out the extractor (``identity/smile@+1``), the picture (``identity/toy``) or both
    (``identity``). Without a picture it says those of all pictures, but of reconstructions only the last: not
    ``encoded`` where there is ``tuned``.
    """
    parts = {name: split_name(name, edits) for name in names}
    if said in parts:
        return [said]
    if of_picture := [name for name, part in parts.items() if said == f"{part.metric}/{part.picture}"]:
        return of_picture
    found = {name: part for name, part in parts.items() if said in (part.metric, f"{part.metric}/{part.extractor}")}
    if not found:
        known = {
            short for name, part in parts.items() for short in (name, part.metric, f"{part.metric}/{part.picture}")
        }
        raise ParamsError(f"no score {said!r}{near_matches(said, sorted(n.removesuffix('/') for n in known))}")
    tuned = {(part.metric, part.extractor) for part in found.values() if part.picture == TUNED}
    return [n for n, part in found.items() if part.picture != ENCODED or (part.metric, part.extractor) not in tuned]


def why_missing(said: str, measured: Iterable[str], edits: Sequence[PlannedEdit] = ()) -> str:
    """Say why rows have no score that an installed metric gives, of those ``measured``; empty where that is no cause.

    ``said`` is a whole or a short name as ``find_columns`` takes it.
    """
    parts = split_name(said, edits)
    owners = [(name, metric) for name, metric in METRICS if name == parts.metric or metric.explain(parts, edits)]
    if not owners:
        return ""
    if not any(issubclass(metric, RowMetric) for _, metric in owners):
        return "it is a number of the whole dataset, and rows have none"
    names = [name for name, _ in owners]
    return "" if set(names) & set(measured) else f"add {' or '.join(names)} to measure.metrics"
