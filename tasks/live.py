"""Learning curves of trainings for DVC: written by dvclive where that is installed (the extra ``live``)."""

from pathlib import Path

from torch import Tensor

from gan_core.training.log import Report, tile

FOLDER = Path("dvclive")


class LiveLog(Report):
    """A training report as dvclive's files, ``dvclive/NAME``: a curve for each number, the newest numbers and pictures.

    ``dvc plots``, ``dvc metrics`` and ``dvc exp show`` find them by the ``dvc.yaml`` there. Nothing is sent anywhere,
    and no experiment is saved: that is for ``dvc exp run``. With ``resume`` the curves go on. Raises ``ImportError``
    where dvclive isn't installed.
    """

    def __init__(self, name: str, resume: bool) -> None:
        from dvclive import Live

        place = FOLDER / name
        place.mkdir(parents=True, exist_ok=True)
        self.live = Live(str(place), resume, report=None, save_dvc_exp=False, dvcyaml=str(place / "dvc.yaml"))

    def __call__(self, seen: int, metrics: dict[str, float], pictures: Tensor) -> None:
        self.live.step = seen
        for name, value in metrics.items():
            self.live.log_metric(name, value)
        self.live.log_image("samples.png", tile(pictures))
        self.live.sync()


def live_log(name: str, resume: bool) -> LiveLog | None:
    """Return the log of a training for DVC; None where dvclive isn't installed."""
    try:
        return LiveLog(name, resume)
    except ImportError:
        return None
