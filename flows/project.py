"""The step that puts a run of a deployment into the project folder of the machine that it runs on."""

import os
from pathlib import Path

FOLDER_VARIABLE = "EDIT_DATASET_FOLDER"


def use_project_folder() -> dict[str, str]:
    """Change to the folder of ``EDIT_DATASET_FOLDER``, by default the checkout that this file belongs to.

    An installed wheel belongs to none: a run then stays in the folder that its worker was started in.

    ``prefect.yaml`` names this as its pull step: the folder is that of the worker's machine or image, not that of the
    machine that deployed. Returns it as ``directory``, as Prefect's own steps do.
    """
    folder = os.environ.get(FOLDER_VARIABLE) or str(checkout() or Path.cwd())
    os.chdir(folder)
    return {"directory": folder}


def checkout() -> Path | None:
    """Return the checkout that this file belongs to, None for an installed wheel."""
    folder = Path(__file__).resolve().parents[1]
    return folder if (folder / "pyproject.toml").is_file() else None


def hidden_packages() -> list[str]:
    """Return the packages of edit-dataset in place of which a Python that starts in this folder finds the folder's."""
    ours = Path(__file__).resolve().parent
    found = []
    for name in ("flows", "tasks", "gan_core"):
        theirs = [path for path in (Path(name, "__init__.py"), Path(f"{name}.py")) if path.is_file()]
        if theirs and Path(name).resolve() != ours.with_name(name):
            found.append(str(theirs[0]))
    return found
