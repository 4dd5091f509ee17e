"""Check that everything a run needs is here, and say how to fix what is not."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from flows import servers
from gan_core.errors import CheckpointError, UserError
from gan_core.params import ModelPaths, Params, load_params

SMALLEST_DISK_GB = 2.0
RANGES = {
    "torch": ("2.13", "2.14"),
    "prefect": ("3.8.8", "3.10"),
    "fastapi": ("0.139", "0.151"),
    "sqlalchemy": ("2.0", "2.1"),
    "mlflow": ("3.17", "4"),
    "dvc": ("3.67", "4"),
}


@dataclass(frozen=True)
class Check:
    """One check: what was found, and how to fix it where ``fine`` is false."""

    name: str
    fine: bool
    found: str
    mend: str = ""


def examine(params_file: str = "params.yaml") -> Iterator[Check]:
    """Yield every check; nothing is changed and nothing is started."""
    supported = (3, 11) <= sys.version_info < (3, 14)
    yield Check("python", supported, sys.version.split()[0], "make install PYTHON=python3.13")
    for package, bounds in RANGES.items():
        yield _package(package, *bounds)
    yield _devices()
    yield _disk()
    yield from (_service(name) for name in servers.SERVICES)
    try:
        params = load_params(params_file)
    except UserError as error:
        yield Check("params", False, str(error), "edit the file, or name another with --params")
        return
    yield Check("params", True, params_file)
    yield _device(params.run.device)
    yield from _checkpoints(params)


def _package(name: str, low: str, high: str) -> Check:
    mend = "pip install -e . -c constraints.txt"
    try:
        found = version(name)
    except PackageNotFoundError:
        return Check(name, False, "is not installed", mend)
    fine = _numbers(low) <= _numbers(found) < _numbers(high)
    return Check(name, fine, found if fine else f"{found}, tested from {low} to before {high}", mend)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("+")[0].split(".") if part.isdigit())


def _devices() -> Check:
    import torch

    cards = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return Check("devices", True, f"{len(os.sched_getaffinity(0))} CPU cores, {', '.join(cards) or 'no GPU'}")


def _device(wanted: str) -> Check:
    from gan_core.device import describe_device

    try:
        return Check("run.device", True, describe_device(wanted))
    except UserError as error:
        return Check("run.device", False, str(error), "--set run.device=cpu, or a driver and a torch that see the card")


def _disk() -> Check:
    free = shutil.disk_usage(".").free / 1e9
    mend = "free some space: finished runs in runs/, `dvc gc -w` for old versions of data"
    return Check("disk", free >= SMALLEST_DISK_GB, f"{free:.0f} GB free", mend)


def _service(name: str) -> Check:
    running = servers.find(name)
    if running is None:
        return Check(name, True, "not running (`make up` starts it)")
    answers = servers.answers(name, running)
    mend = f"edit-dataset server stop {name} && edit-dataset server start {name}; its log: {servers.FOLDER / name}.log"
    return Check(name, answers, running.url if answers else f"{running.url} does not answer", mend)


def _checkpoints(params: Params) -> Iterator[Check]:
    from gan_core.published.sources import SOURCES
    from tasks.versions import dvc_hashes

    paths = params.models.model_dump()
    recorded = dvc_hashes({name: path for name, path in paths.items() if Path(path).exists()})
    for name in ModelPaths.model_fields:
        if name in SOURCES and not Path(paths[name]).exists():
            continue  # a published network, that only some metrics want
        yield _checkpoint(f"models.{name}", paths[name], recorded.get(name, ""))


def _checkpoint(name: str, path: str, recorded: str) -> Check:
    from gan_core.checkpoints.files import file_sha256, read_card

    try:
        card = read_card(path)
    except CheckpointError as error:
        return Check(name, False, str(error), f"dvc pull {path}")
    if recorded.endswith("-modified"):
        return Check(
            name, False, f"{path} is not what DVC has recorded", f"dvc checkout {path}, or dvc commit to keep it"
        )
    known = "recorded by DVC" if recorded else "not tracked by DVC"
    return Check(name, True, f"{path}: {card.name}, sha256 {file_sha256(path)[:12]}, {known}")


def report(say: Callable[[str], object], params_file: str = "params.yaml") -> bool:
    """Print every check in a line, and how to fix what is wrong; return whether all have passed."""
    fine = True
    for check in examine(params_file):
        fine = fine and check.fine
        say(f"{'ok  ' if check.fine else 'FAIL'} {check.name:24} {check.found}")
        if not check.fine:
            say(f"     {'':24} fix: {check.mend}")
    return fine
