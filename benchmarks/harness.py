"""What the benchmarks share: the services that they run against, and how they end."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


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
