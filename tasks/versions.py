"""Which version of the code and of the data a run used: the only file that imports DVC."""

import logging
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from gan_core.errors import UserError
from tasks.sessions import end

if TYPE_CHECKING:
    from dvc.repo import Repo

_log = logging.getLogger(__name__)
DVC = [sys.executable, "-m", "dvc"]
LIFELINE = [sys.executable, "-m", "tasks.lifeline"]
NO_PROJECT = "this folder is no DVC project: run `git init && dvc init`, then try again"
NO_REMOTE = "DVC has no remote here: `dvc remote add -d NAME URL`"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class DvcBusyError(UserError):
    """Another DVC command holds the project's lock: try again when it has ended."""


def git_sha() -> str | None:
    """Return the commit in the current folder, with ``-modified`` if tracked files differ; None outside of git."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("-modified" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def dvc_hashes(paths: Mapping[str, str]) -> dict[str, str]:
    """Return DVC's hash of each named path that it tracks, with ``-modified`` if the data has changed.

    ``paths`` maps names of the caller's choice to files or folders; one inside a tracked folder has that folder's hash.
    Outside of a DVC project nothing is tracked; what DVC can't determine is left out with a warning.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError, OutputNotFoundError
    from dvc.repo import Repo

    hashes: dict[str, str] = {}
    try:
        with Repo() as repo:
            for name, path in paths.items():
                try:
                    output = repo.find_outs_by_path(path, strict=False)[0]
                except OutputNotFoundError:
                    continue
                if output.hash_info:
                    hashes[name] = str(output.hash_info.value) + ("-modified" if output.status() else "")
    except NotDvcRepoError:
        return {}
    except DvcException as error:
        _log.warning("DVC can't determine all versions: %s", error)
    return hashes


def start_project() -> bool:
    """Make the current folder a DVC project, unless it lies in one; return whether git keeps its history.

    Raises ``UserError`` for what DVC refuses.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo

    try:
        top = _git("rev-parse", "--show-toplevel")
    except (OSError, subprocess.SubprocessError):
        top = ""
    _quiet()
    with suppress(NotDvcRepoError), Repo():
        return bool(top)
    try:
        Repo.init(".", no_scm=not top, subdir=bool(top) and not Path(top).samefile(".")).close()
    except DvcException as error:
        raise UserError(" ".join(f"DVC can't make a project here: {error}".split())) from error
    return bool(top)


def track(paths: Sequence[str]) -> list[str]:
    """Have DVC track files as they are now, and return those that it does; outside of a DVC project it is none.

    A file that a pipeline stage makes belongs to that stage and is skipped, with a warning.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo

    tracked = []
    _quiet()
    try:
        with Repo() as repo:
            for path in paths:
                try:
                    _add(repo, path)
                    tracked.append(path)
                except (DvcException, UserError) as error:
                    _log.warning("DVC doesn't track %s: %s", path, error)
    except NotDvcRepoError:
        return []
    return tracked


def check_output(path: str, push: bool = False) -> None:
    """Raise ``UserError`` unless DVC can track ``path`` by itself: in a DVC project, that of the current folder.

    With ``push`` the project needs a remote, too.
    """
    from dvc.exceptions import NotDvcRepoError, OutputNotFoundError
    from dvc.repo import Repo

    try:
        root = Path(Repo.find_root())
    except NotDvcRepoError:
        raise UserError(NO_PROJECT) from None
    if not Path(path).resolve().is_relative_to(root.resolve()):
        raise UserError(
            f"{path} is outside of the DVC project {root}, so DVC can't track it: choose a folder in the project, "
            "or copy the rows with `edit-dataset export`"
        )
    with Repo() as repo, suppress(OutputNotFoundError):
        if push and not repo.config["core"].get("remote"):
            raise UserError(f"--push: {NO_REMOTE}, and publish again")
        for tracked in repo.find_outs_by_path(str(Path(path).resolve()), strict=False):
            if Path(tracked.fs_path) != Path(path).resolve():
                raise UserError(f"{path} lies in {tracked}, which DVC tracks as a whole: choose a folder outside of it")


def add_output(path: str, push: bool = False) -> str:
    """Have DVC track a folder as it is now, send it to the remote if ``push``, and return its hash.

    Raises ``DvcBusyError`` while another DVC command is at work here, and ``UserError`` for what DVC refuses or can't
    keep.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.lock import LockError
    from dvc.repo import Repo

    _quiet()
    try:
        with Repo() as repo:
            version = _add(repo, path)
            if push:
                repo.push(targets=[path])
            return version
    except LockError:
        raise DvcBusyError(f"{path}: another DVC command is at work in this folder; wait for it to end") from None
    except NotDvcRepoError:
        raise UserError(NO_PROJECT) from None
    except DvcException as error:
        raise UserError(" ".join(f"DVC refuses {path}: {COLOURS.sub('', str(error))}".split())) from error


def _add(repo: "Repo", path: str) -> str:
    """Have DVC track a path and return its hash; raises ``UserError`` where its cache hasn't got all of it.

    DVC only logs what it can't write to its cache.
    """
    (stage,) = repo.add(path)
    if stage.outs[0].changed_cache():
        raise UserError(
            f"{path} is not whole in DVC's cache ({repo.cache.local.path}): see if that disk is full, and do it again"
        )
    return str(stage.outs[0].hash_info.value)


def _quiet() -> None:
    """Keep DVC from telling for each file which git command follows: the commands here say it once."""
    logging.getLogger("dvc").setLevel(logging.WARNING)


def keep_output(path: str, pushed: bool) -> list[str]:
    """Return in lines what keeps a folder that DVC tracks, for oneself and for others."""
    from dvc.repo import Repo

    path = path.rstrip("/")
    beside = Path(path).parent / ".gitignore"
    files = [f"{path}.dvc", *([str(beside)] if beside.exists() else [])]
    with Repo() as repo:
        name = repo.config["core"].get("remote")
        url, top = (repo.config["remote"][name]["url"], repo.scm.root_dir) if name else ("", "")
        versioned = not repo.config["core"].get("no_scm")
    git = [" ".join(["git add", *map(quote, files)]), "git commit"] if versioned else []
    commands = git + ([f"dvc push {quote(path)}"] if name and not pushed else [])
    said = [f"keep it: {' && '.join(commands)}"] if commands else []
    if not versioned:
        said.append(f"{path}.dvc names this version: keep a copy, as there is no git here")
    if not name:
        said.append(f"nobody else gets the data: {NO_REMOTE}, then `dvc push`")
    elif "://" not in url and Path(url).is_relative_to(top):
        inside = Path(url).relative_to(top)
        said.append(f"the DVC remote {name!r} is the folder {inside} of this repository: commit that as well")
    return said


def say_untracked(path: str) -> str:
    """Return what to do about data that git would take as they are; nothing where git doesn't see or ignores them."""
    try:
        ignored = subprocess.run(["git", "check-ignore", "-q", path], capture_output=True, timeout=30).returncode
    except (OSError, subprocess.SubprocessError):
        return ""
    seen = "://" not in path and ignored == 1  # 128: it isn't in this repository
    return f"before `git add`: `dvc add {quote(path)}`, else git takes the pictures themselves" if seen else ""


def reproduce(stage: str, say: Callable[[str], object] = _log.info) -> None:
    """Run ``dvc repro STAGE`` and pass on each line of its output.

    What it has started ends with this process, also if this one is killed. Raises ``DvcBusyError`` while another DVC
    command is at work here, and ``UserError`` when the stage fails.
    """
    lines = []
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    command = [*LIFELINE, *DVC, "repro", stage]
    with subprocess.Popen(command, start_new_session=True, **streams) as process:  # type: ignore[call-overload]
        try:
            for line in process.stdout:
                if line := line.strip():
                    lines.append(line)
                    say(line)
        except BaseException:
            end(process.pid)
            raise
    if process.returncode:
        _explain(stage, lines)


def _explain(stage: str, lines: list[str]) -> None:
    if any("nable to acquire lock" in line or "is busy" in line for line in lines):
        raise DvcBusyError(f"{stage}: another DVC command is at work in this folder; wait for it to end")
    said = next((line for line in reversed(lines) if line.startswith("ERROR")), (lines or ["no output"])[-1])
    raise UserError(f"{stage} failed: {said}")


def _git(*arguments: str) -> str:
    reply = subprocess.run(["git", *arguments], check=True, capture_output=True, text=True, timeout=30)
    return reply.stdout.strip()
