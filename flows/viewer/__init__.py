"""The page of ``edit-dataset view``, on this machine only: a FastAPI application over ``gan_core.browse``."""

import math
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from fastapi import FastAPI, HTTPException, Query, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from gan_core.browse.marks import UNMARKED, Mark, read_marks, set_mark
from gan_core.browse.pictures import read_history, read_picture
from gan_core.browse.table import DESCRIBING, LARGEST_PAGE, RowTable, picture_columns
from gan_core.browse.table import Query as Wanted
from gan_core.errors import UserError
from gan_core.runs.run import Run
from gan_core.secrets import hide
from gan_core.storage.images import ImageError

HOSTS = ["127.0.0.1", "localhost", "[::1]"]
"""Names by which a browser may ask: a page elsewhere can't, not even under a name of its own for this machine."""
Texts = Annotated[Sequence[str], Query()]


def make_app(runs: list[Run]) -> FastAPI:
    """Build the application over these runs; the marks are those of the first. Raises ``DataError``."""
    app = FastAPI(title="edit-dataset view", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)
    app.add_exception_handler(UserError, lambda _, error: JSONResponse({"detail": str(error)}, 400))
    answers = _Answers(runs)
    app.get("/", response_class=HTMLResponse)(_page)
    app.get("/api/about")(answers.about)
    app.get("/api/rows")(answers.rows)
    app.get("/api/row")(answers.row)
    app.put("/api/mark")(answers.mark)
    app.get("/picture")(answers.picture)
    return app


def _page() -> str:
    return (Path(__file__).parent / "page.html").read_text()


class _Answers:
    """What the page asks for."""

    def __init__(self, runs: list[Run]) -> None:
        self._table = RowTable(runs)
        self._names, self._own = list(self._table.runs), runs[0].output
        self._started = secrets.token_hex(8)  # a browser's pictures of an earlier one may be of another run
        self._pictures = {name: picture_columns(run) for name, run in self._table.runs.items()}

    def about(self) -> dict[str, Any]:
        """The runs, their pictures and scores, and how many rows there are of each status and mark."""
        table = self._table
        said = read_marks(self._own)  # of rows that the run no longer has, too
        marks = [said[key].mark for key in table.frame["key"] if key in said and said[key].mark != UNMARKED]
        counts = {mark: marks.count(mark) for mark in ("accepted", "rejected")}
        return {
            "runs": [
                {
                    "name": name,
                    "output": hide(run.output),
                    "pictures": self._pictures[name],
                    "common": table.common[name],
                }
                for name, run in table.runs.items()
            ],
            "started": self._started,
            "rows": len(table.frame),
            "statuses": table.counts("status"),
            "scores": table.scores,
            "marks": counts | {UNMARKED: len(table.frame) - len(marks)},
        }

    def rows(
        self,
        status: Texts = (),
        mark: Texts = (),
        limit: Texts = (),
        text: str = "",
        sort: str = "key",
        descending: bool = False,
        score: str = "",
        page: Annotated[int, Query(ge=0)] = 0,
        size: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = 24,
    ) -> dict[str, Any]:
        """A page of the rows that are asked for, how many there are, and the histogram of ``score``.

        A ``limit`` is ``SCORE|LEAST|LARGEST``.
        """
        table, marks = self._table, read_marks(self._own)
        ranges = {name: bounds for name, bounds in map(_bounds, limit)}
        wanted = Wanted(frozenset(status), text, frozenset(mark), ranges, sort, descending)
        found = table.select(wanted, {key: said.mark for key, said in marks.items()})
        lines = table.frame.iloc[found[page * size : (page + 1) * size]].to_dict("records")
        return {
            "found": len(found),
            "rows": [_describe(line, table, self._names, marks.get(line["key"], Mark())) for line in lines],
            "histogram": table.histogram(score, found) if score else None,
        }

    def row(self, key: str) -> list[dict[str, Any]]:
        """Everything that the stages of each run say of a row."""
        places = {name: self._table.place(name, key) for name in self._names}
        return [
            {"run": name, "stages": _jsonable(list(read_history(self._table.runs[name], *place)))}
            for name, place in places.items()
            if place is not None
        ]

    def picture(
        self, run: int, stage: str, column: str, shard: str, position: int, side: Annotated[int, Query(ge=1)] = 192
    ) -> Response:
        """A picture of a row, shrunk."""
        name = self._names[run] if 0 <= run < len(self._names) else ""
        chosen = self._table.runs.get(name)
        if chosen is None or shard not in chosen.shards or (stage, column) not in self._pictures[name]:
            raise HTTPException(404, "there is no such picture")
        try:
            data = read_picture(chosen, stage, column, shard, position, side)
        except (ImageError, IndexError):
            data = None
        if data is None:
            raise HTTPException(404, "this row has no such picture")
        return Response(data, media_type="image/webp", headers={"Cache-Control": "private, max-age=600"})

    def mark(self, key: str, mark: Mark) -> dict[str, Any]:
        """Write down what a person says of a row."""
        if self._table.place(self._names[0], key) is None:
            raise HTTPException(404, f"no row {key!r}")
        set_mark(self._own, key, mark)
        return mark.model_dump()


def _bounds(text: str) -> tuple[str, tuple[float, float]]:
    name, _, bounds = text.partition("|")
    low, _, high = bounds.partition("|")
    try:
        return name, (float(low or -math.inf), float(high or math.inf))
    except ValueError:
        raise HTTPException(422, f"limit={text}: write SCORE|LEAST|LARGEST") from None


def _describe(line: Mapping[Any, Any], table: RowTable, names: list[str], mark: Mark) -> dict[str, Any]:
    scores = {name: line[name] for name in table.scores if pd.notna(line[name])}
    places = [table.place(name, line["key"]) for name in names]
    return _jsonable(
        {name: line[name] for name in DESCRIBING} | {"scores": scores, "places": places, **mark.model_dump()}
    )


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _jsonable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.item() if hasattr(value, "item") else value
