"""Check that everything a run needs is here, and say how to fix what is not."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from flows import servers
from flows.prefect_api import ask_version
from flows.project import hidden_packages
from gan_core.errors import CheckpointError, UserError
from gan_core.params import ModelPaths, Params, TrackParams, load_params
from gan_core.secrets import hide
from tasks.tracking.artifacts import is_unused

SMALLEST_DISK_GB = 2.0
PACKAGE = "edit-dataset"
SHOWN = ("torch", "prefect", "fastapi", "sqlalchemy", "mlflow", "dvc")
"""Packages that have a line of their own; others have one only where something is wrong."""


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
    yield from _packages()
    for path in hidden_packages():
        yield Check("folder", False, f"{path} hides a package of edit-dataset from Prefect and DVC here", "rename it")
    yield _devices()
    yield _disk()
    yield from (_service(name) for name in servers.SERVICES)
    if address := os.environ.get("PREFECT_API_URL"):
        yield _address(address)
    try:
        params = load_params(params_file)
    except UserError as error:
        yield Check("params", False, str(error), "edit the file, or name another with --params")
        return
    yield Check("params", True, params_file)
    yield _device(params.run.device)
    yield _tracking(params.track)
    yield from _checkpoints(params)


def _packages() -> Iterator[Check]:
    """Compare what is installed with what the project asks for."""
    try:
        needs = [Requirement(text) for text in requires(PACKAGE) or ()]
    except PackageNotFoundError:
        yield Check(PACKAGE, False, "is not installed", "pip install -e . -c constraints.txt")
        return
    for need in needs:
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            check = _package(need)
            if not check.fine or need.name in SHOWN:
                yield check


def _package(need: Requirement) -> Check:
    try:
        found = version(need.name)
    except PackageNotFoundError:
        return Check(need.name, False, "is not installed", f"pip install '{need}'")
    fine = need.specifier.contains(found, prereleases=True)
    return Check(need.name, fine, found if fine else f"{found}, tested with {need.specifier}", f"pip install '{need}'")


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
        return Check(name, True, "not running (`edit-dataset server up` starts it)")
    answers = servers.answers(name, running)
    mend = f"edit-dataset server stop {name} && edit-dataset server start {name}; its log: {servers.FOLDER / name}.log"
    return Check(name, answers, running.url if answers else f"{running.url} does not answer", mend)


def _address(address: str) -> Check:
    """Check the server that runs are shown on in place of the project's own."""
    mend = "name the API of a server that runs, or unset PREFECT_API_URL: runs then use this project's own server"
    try:
        version = ask_version(address)
    except UserError as error:
        return Check("PREFECT_API_URL", False, str(error), mend)
    own = servers.find("prefect")
    unused = f", in place of this project's own at {own.url}" if own and not servers.is_own(address) else ""
    found = f"Prefect {version}" if version else "does not answer"
    return Check("PREFECT_API_URL", bool(version), f"{hide(address)}: {found}{unused}", mend)


def _tracking(track: TrackParams) -> Check:
    from tasks.tracking.address import address_of, usable
    from tasks.tracking.client import client_of, find_experiment, mlflow_errors

    address = address_of(track)
    if is_unused(address):
        return Check("track", True, f"{address}, which the first run makes")
    try:
        with mlflow_errors(address):
            uri = usable(address)
            find_experiment(client_of(uri), uri, track.experiment)
    except UserError as error:
        return Check("track", False, str(error), "MLflow's address: track.uri or MLFLOW_TRACKING_URI")
    return Check("track", True, f"{hide(uri)}, experiment {track.experiment!r}")


def _checkpoints(params: Params) -> Iterator[Check]:
    from gan_core.published.sources import SOURCES
    from tasks.versions import dvc_hashes

    paths = params.models.model_dump()
    recorded = dvc_hashes({name: path for name, path in paths.items() if Path(path).exists()})
    for name in ModelPaths.model_fields:
        if (name in SOURCES or name in ("hypernetwork", "features")) and not Path(paths[name]).exists():
            continue  # a published or an own network, that only some metrics or refinements want
        if name == "inversion":
            continue  # no checkpoint but a table, which planning checks where steps follow from it
        if name == "domain":
            yield _domains(paths[name])
            continue
        yield _checkpoint(f"models.{name}", paths[name], recorded.get(name, ""))


def _checkpoint(name: str, path: str, recorded: str) -> Check:
    from gan_core.checkpoints.files import file_sha256, how_to_get, read_card

    try:
        card = read_card(path)
    except CheckpointError as error:
        return Check(name, False, str(error), how_to_get(path))
    if recorded.endswith("-modified"):
        return Check(
            name, False, f"{path} is not what DVC has recorded", f"dvc checkout {path}, or dvc commit to keep it"
        )
    known = "recorded by DVC" if recorded else "not tracked by DVC"
    return Check(name, True, f"{path}: {card.name}, sha256 {file_sha256(path)[:12]}, {known}")


def _domains(path: str) -> Check:
    from gan_core.judges.domain import read_domains

    try:
        known = len(read_domains(path))
    except UserError as error:
        return Check("models.domain", False, str(error), f"dvc checkout {path}")
    return Check("models.domain", True, f"{path}: what {known} encoders can draw" if known else f"{path}: not there")


def report(say: Callable[[str], object], params_file: str = "params.yaml") -> bool:
    """Print every check in a line, and how to fix what is wrong; return whether all have passed."""
    fine = True
    for check in examine(params_file):
        fine = fine and check.fine
        say(f"{'ok  ' if check.fine else 'FAIL'} {check.name:24} {check.found}")
        if not check.fine:
            say(f"     {'':24} fix: {check.mend}")
    return fine
