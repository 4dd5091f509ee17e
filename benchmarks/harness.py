"""What the benchmarks share: the services that they run against, how they time and compare, and how they end."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor


@contextmanager
def services(folder: str) -> Iterator[None]:
    """Run the block with the project's Prefect server, and MLflow logging into ``folder``.

    A server that was not running before is stopped again.
    """
    from flows.servers import find, stop, use_prefect_server  # most benchmarks need no server, nor its packages

    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    before = find("prefect")
    use_prefect_server()
    try:
        yield
    finally:
        if before is None:
            stop("prefect")


def timed(work: Callable[[], object]) -> float:
    """Return the wall time of one call in seconds."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def shortest(work: Callable[[], object], rounds: int) -> float:
    """Return the shortest wall time of ``rounds`` calls in seconds."""
    return min(timed(work) for _ in range(rounds))


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return the root mean square of the difference of two tensors of one shape over that of what was expected."""
    return float((found - expected).square().mean().sqrt() / expected.square().mean().sqrt())


Value = float | list[str] | Mapping[str, "Value"]


def print_result(**values: Value) -> None:
    """Print the line that programs read: ``RESULT {"key": value, ...}``, numbers with four significant digits."""
    print("RESULT " + json.dumps(_rounded(values)), flush=True)


def _rounded(value: Value) -> Value:
    if isinstance(value, list):
        return value
    if isinstance(value, Mapping):
        return {name: _rounded(part) for name, part in value.items()}
    return float(f"{value:.4g}")
