"""A new project folder: parameters, deployments, a DVC project and the toy networks, from the package alone."""

from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from flows.project import checkout
from gan_core.errors import UserError
from gan_core.storage.atomic import copy_file
from tasks.versions import start_project, track

PACKAGE = "edit-dataset"
TEMPLATES = {"dvc.yaml": "pipeline.yaml", ".gitignore": "gitignore"}
"""A project's files, and the files beside this one that they are copies of: DVC reads each dvc.yaml in a checkout."""
SHIPPED = ("params.yaml", "prefect.yaml")
MODELS, SAMPLE = "data/models", "data/sample"
MARK = "share/edit-dataset"
"""Where an installed wheel keeps ``SHIPPED``, ``MODELS`` and ``SAMPLE``, below the environment's folder."""


@dataclass(frozen=True)
class Project:
    """What ``make_project`` did: files written, files that were there and stay, and whether git keeps the folder."""

    written: list[str]
    kept: list[str]
    git: bool


def make_project(folder: str | Path, sample: bool = False) -> Project:
    """Write what a project folder needs: parameters, deployments, a pipeline, the toy networks.

    A file that is there already is kept as it is. With ``sample`` the dataset of the demo comes too. The folder becomes
    a DVC project that tracks the networks. Raises ``UserError`` where the package has no networks, or the folder can't
    be written.
    """
    if "://" in str(folder):
        raise UserError(f"{folder} is a URL: name a local folder; datasets and runs of a project may be anywhere")
    target, origin = Path(folder), _origin()
    models = [path for path in _below(origin / MODELS) if path.suffix in (".safetensors", ".json")]
    if not any(path.name == "generator.safetensors" for path in models):
        raise UserError(f"{origin / MODELS} has no networks: in a checkout `dvc pull`, for a wheel `make wheel`")
    wanted = {name: Path(__file__).parent / template for name, template in TEMPLATES.items()}
    wanted |= {name: origin / name for name in SHIPPED}
    wanted |= {str(path.relative_to(origin)): path for path in models}
    wanted |= {str(path.relative_to(origin)): path for path in _below(origin / SAMPLE) if sample}
    for place in (target, target / "data", target / MODELS, target / SAMPLE):
        if place.is_symlink() and not place.exists():
            raise UserError(f"{place} is a link to {place.readlink()}, which isn't there: mount it, or remove the link")
    try:
        written = {name: _copy(path, target / name) for name, path in wanted.items()}
        (target / "data/metrics").mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"{error.filename or folder}: {error.strerror}; name a folder that you may write to") from None
    with chdir(target):
        git = start_project()
        track([name for name in wanted if name.startswith(f"{MODELS}/")] + [SAMPLE] * sample)
    return Project([name for name in wanted if written[name]], [name for name in wanted if not written[name]], git)


def _origin() -> Path:
    """Return the checkout that this file belongs to, else the folder of the installed wheel's data files."""
    if folder := checkout():
        return folder
    try:
        shipped = next(file for file in files(PACKAGE) or () if str(file).endswith(f"{MARK}/{SHIPPED[0]}"))
    except (PackageNotFoundError, StopIteration):
        raise UserError(f"the package {PACKAGE} is installed without its data files: install its wheel again") from None
    return Path(str(shipped.locate())).resolve().parent


def _below(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))


def _copy(source: Path, target: Path) -> bool:
    if target.exists():
        return False
    copy_file(source, target)
    return True
