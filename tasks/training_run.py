"""Trainings in MLflow: one run per training, which continues after interruptions."""

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from gan_core.params import TrackParams
from gan_core.runs.run import flatten
from gan_core.secrets import hide
from gan_core.sections import Section
from gan_core.training.log import FOLDER, Report, TrainingLog, tile
from tasks.live import live_log
from tasks.system_metrics import is_wanted
from tasks.tracking.address import address_of, usable
from tasks.tracking.client import author, client_of, experiment_of, log_metrics, log_params, say
from tasks.tracking.runs import watch_system


class TrainingRun(Report):
    """A training report that goes to MLflow and dvclive too: losses and scores by images seen, the newest pictures.

    The ``TrainingLog`` of this name in ``folder`` is written first; ``section`` holds the training's parameters. While
    MLflow can't be reached it is warned about and training goes on; the run's id is kept in ``folder``, so that resumed
    training goes on in the same run. On a terminal a bar shows the progress.
    """

    def __init__(self, name: str, section: Section, track: TrackParams, folder: Path = FOLDER) -> None:
        self.local = TrainingLog(name, folder)
        self.live = live_log(name, resume=(folder / name).is_dir())
        self.name = name
        self.params = {key: str(value) for key, value in flatten(section.model_dump(mode="json")).items()}
        self.experiment = f"{track.experiment}-training"
        self.uri = address_of(track)
        self.kept = folder / f"{name}.run"
        self.begun = False
        self.watched = is_wanted(track)
        self.stop_watching: Callable[[], None] = lambda: None
        self.bars = Progress(console=Console(stderr=True), disable=not sys.stderr.isatty())
        self.bar = self.bars.add_task(name, total=None)

    def __call__(self, seen: int, metrics: dict[str, float], pictures: Tensor) -> None:
        self.local(seen, metrics, pictures)
        for place, log in {hide(self.uri): self._log, "dvclive": self.live}.items():
            try:
                if log is not None:
                    log(seen, metrics, pictures)
            except Exception as error:
                logging.getLogger(__name__).warning("not logged to %s: %s", place, say(error))

    def progress(self, seen: int, images: int) -> None:
        """Update the progress bar."""
        self.local.progress(seen, images)
        self.bars.update(self.bar, completed=seen, total=images)

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the run as finished, failed or killed; after a failure the next training goes on in it."""
        self.bars.stop()
        if kind is None:
            self.close()
        else:
            self._end("FAILED" if issubclass(kind, Exception) else "KILLED")

    def close(self) -> None:
        """Mark the run as finished, so that the next training of this name begins a run of its own."""
        self._end("FINISHED")
        self.kept.unlink(missing_ok=True)

    def _end(self, status: str) -> None:
        try:
            self.stop_watching()
            if self.kept.exists():
                client_of(usable(self.uri)).set_terminated(self.kept.read_text(), status)
        except Exception as error:
            logging.getLogger(__name__).warning("not logged to %s: %s", hide(self.uri), say(error))

    def _log(self, seen: int, metrics: dict[str, float], pictures: Tensor) -> None:
        uri = usable(self.uri)
        client = client_of(uri)
        if not self.kept.exists():
            experiment_id = experiment_of(client, uri, self.experiment)
            run = client.create_run(experiment_id, run_name=self.name, tags=author())
            log_params(client, run.info.run_id, self.params)
            self.kept.write_text(run.info.run_id)
        run_id = self.kept.read_text()
        if not self.begun:
            client.update_run(run_id, status="RUNNING")
            self.begun = True
            if self.watched:
                self.stop_watching = watch_system(run_id, uri)
        log_metrics(client, run_id, metrics, when=round(time.time() * 1000), step=seen)
        client.log_image(run_id, tile(pictures), key="samples", step=seen)
