"""What a flow run is called: as whoever started it said, else as its parameters say."""

import re
from collections.abc import Callable
from functools import cache
from typing import Any, cast

from prefect.context import FlowRunContext

GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon phi chi"
)
FORM = re.compile(rf"({'|'.join(GREEK.split())}|psi|omega)\d+(-[a-z]+)*")
"""Names such as ``pi29-teplan``, with which the form of Prefect's page is filled in; those without a number stay."""


def named(describe: Callable[[dict[str, Any]], str]) -> Callable[[], str]:
    """Return Prefect's ``flow_run_name``: the name that the run was given, or what ``describe`` makes of parameters."""

    def name() -> str:
        context = FlowRunContext.get()
        if context is None or context.flow_run is None:
            raise RuntimeError("a flow run is named while it begins")
        given = context.flow_run.name
        return describe(context.parameters or {}) if is_made_up(given) else given

    return name


def by_output(parameters: dict[str, Any]) -> str:
    """Name a run by its folder."""
    return str(parameters["output"])


def is_made_up(name: str) -> bool:
    """Tell whether a name is one that Prefect makes up, such as ``brave-otter``, for a run that was given none."""
    return bool(FORM.fullmatch(name)) or (
        bool(re.fullmatch(r"[a-z]+(-[a-z]+)+", name)) and set(name.split("-")) <= _words()
    )


@cache
def _words() -> frozenset[str]:
    from coolname.data import config

    parts = cast(dict[str, dict[str, Any]], config).values()
    return frozenset(word for part in parts for word in part.get("words", ()))
