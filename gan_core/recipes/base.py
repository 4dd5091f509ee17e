"""The kind of a run, its recipe: stages, plan, summary and page. ``run.json`` names it, and every command uses it."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from gan_core.errors import DataError, ParamsError
from gan_core.pages.page import Page
from gan_core.params import Params, load_params
from gan_core.recipes.space import check_space
from gan_core.registry import Registry
from gan_core.runs.run import SOURCE, Run, begin_run, check_changes, check_folder
from gan_core.runs.stage import Stage, build_stage, check_stage, identity_of
from gan_core.runs.summary import summarise
from gan_core.stopping import forget_stop, request_stop
from gan_core.storage.atomic import sweep_folder
from gan_core.storage.holding import hold_folder
from gan_core.storage.keys import check_dataset
from gan_core.storage.shards import BASE_NAMES, IMAGE

if TYPE_CHECKING:
    import pandas as pd


def _nothing() -> None:
    """Write nothing: the stages need no more than ``run.json``."""


@dataclass(frozen=True)
class Plan:
    """A checked run, not written yet; ``write`` writes what its first stage reads besides the source.

    ``scores`` are the names of the scores that its rows will have; gates can be only of these.
    """

    run: Run
    write: Callable[[], None] = _nothing
    update: bool = False
    scores: tuple[str, ...] = ()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the only command that makes this run while the block runs; it is begun inside.

        Raises ``DataError`` if another one does, and ``ParamsError`` if one has meanwhile begun a run that is not this
        one. If a bucket's lease is lost, the work is asked to stop, and the error that ends it becomes a ``DataError``.
        """
        lost = threading.Event()

        def lose() -> None:
            lost.set()
            request_stop()

        with hold_folder(self.run.output, lose):
            sweep_folder(self.run.output)
            check_changes(self.run, self.update)
            try:
                yield
            except BaseException:
                if not lost.is_set():
                    raise
                raise DataError(
                    f"another command has taken {self.run.output} over, because this one could not renew its lease: "
                    "what it has finished is kept, see that the other one goes on"
                ) from None
            finally:
                if lost.is_set():
                    forget_stop()

    def begin(self) -> Run:
        """Write ``run.json`` and what the stages read, and return the run."""
        begin_run(self.run)
        self.write()
        return self.run


class Recipe(ABC):
    """Which stages a run has, how it is planned, and what its summary and its page contain.

    ``sections`` names the sections of the parameters, those of ``extensions`` included, that determine the results,
    besides those named like a stage; they are logged with the run. ``published`` is the stage whose shards
    `edit-dataset publish` copies. A recipe holds no state.

    The code of pages is imported only when a page is written: workers, and commands that only plan, do not need it.
    """

    name: ClassVar[str]
    sections: ClassVar[tuple[str, ...]] = ()
    published: ClassVar[str]

    @abstractmethod
    def stages(self, params: Params) -> tuple[str, ...]:
        """The names of a run's stages, in order."""

    def complete(self, params: Params) -> Params:
        """Fill in the parameters that the networks of a run decide, before it is planned."""
        return params

    def plan(self, params: Params, source: str, output: str) -> Plan:
        """Check dataset and networks; nothing is written. Raises ``UserError`` for the first thing that is wrong."""
        dataset, pictures, scores = check_dataset(source), 0, []
        identities: dict[str, Any] = {}
        lacking: list[DataError] = []  # told after what is wrong with the parameters of any stage
        for name in self.stages(params):
            stage = self.build_stage(name, params, source)
            check_stage(stage, identities)
            try:
                stage.check(dataset)
            except DataError as error:
                lacking.append(error)
            identities[name] = identity_of(stage)
            pictures += sum(field.type == IMAGE for field in stage.fields)
            scores = [field.name for field in stage.fields if pa.types.is_floating(field.type)]
        if lacking:
            raise lacking[0]
        check_space(output, sum(dataset.rows.values()), pictures, params.align.size or 0, params.pictures.format)
        run = Run(params, source, output, dataset.rows, identities, self.name)
        return Plan(run, scores=tuple(scores))

    def build_stage(self, name: str, params: Params, source: str) -> Stage:
        """Build a stage of a run over ``source``; raises ``UserError`` for what can't be used.

        A recipe with a stage of its own between two others overrides this, to set the ``inputs`` of the later one.
        """
        return build_stage(name, params, source)

    def inputs(self, run: Run) -> list[str]:
        """The URLs of the shards that the first stage reads."""
        return run.stage_shards(SOURCE)

    def label(self, run: Run) -> str:
        """What distinguishes runs of this recipe over one dataset, in a word or two: the encoder, the task."""
        return self.name

    def page(self, run: Run) -> Page:
        """The page about a finished run: by default its totals, sample and rejected rows, stages and parameters."""
        from gan_core.pages import generic

        return generic.page(run)

    def scored(self, run: Run, shard: str) -> "Iterator[pd.DataFrame]":
        """Yield the rows of a shard with their scores, as gates judge them: ``ok`` or not, each once.

        The columns are ``key``, ``status``, ``reason``, ``stage`` and the scores that these rows have, NaN where one
        was not measured; the index is the position in the shard. By default these are the rows of the last stage.
        """
        from gan_core.pages.rows import read_scores

        yield read_scores(run, shard)

    def score_names(self, run: Run) -> list[str]:
        """The names of all scores that ``scored`` may yield; by default those of the first rows."""
        return [str(name) for name in next(self.scored(run, run.shards[0])).columns if name not in BASE_NAMES]

    def summarise(self, run: Run) -> dict[str, float]:
        """Write ``summary.json`` and return its metrics; raises ``DataError`` for a shard that isn't finished.

        By default these are the row counts of the last stage and the metrics in its statistics.
        """
        return summarise(run.output, run.stages[-1], run.shards)


RECIPES: Registry[type[Recipe]] = Registry("recipe", "gan_core.recipes", Recipe)
"""Recipes by name; another package adds its own by the entry point ``edit_dataset.recipe``."""


def recipe_of(run: Run) -> Recipe:
    """Return the recipe of a run; raises ``ParamsError`` if it came from a package that is no longer installed."""
    if run.recipe not in RECIPES:
        raise ParamsError(
            f"{run.output} was made by the recipe {run.recipe!r}, which no installed package provides: install "
            "the package that has it"
        )
    return RECIPES.get(run.recipe)()


def plan_run(
    source: str,
    output: str,
    params_file: str = "params.yaml",
    overrides: dict[str, Any] | None = None,
    update: bool = False,
    recipe: str = "edit",
) -> Plan:
    """Check parameters, dataset, networks and output folder; nothing is written.

    Raises ``UserError`` for the first thing that is wrong, and unless ``update`` is given also when ``output`` holds a
    run with other parameters, networks or source.
    """
    return plan_params(load_params(params_file, overrides), source, output, update, recipe)


def plan_params(params: Params, source: str, output: str, update: bool = False, recipe: str = "edit") -> Plan:
    """Do the same as ``plan_run`` for parameters that are checked already."""
    check_folder(source, output)
    chosen = RECIPES.get(recipe)()
    plan = chosen.plan(chosen.complete(params), source, output)
    check_gates(plan)
    check_changes(plan.run, update)
    return replace(plan, update=update)


def check_gates(plan: Plan) -> None:
    """Raise ``ParamsError`` for a gate of a score that the run won't have."""
    if not plan.run.params.gates:
        return
    from gan_core.edits.plan import known_edits
    from gan_core.metrics.names import find_columns, why_missing

    edits, measured = known_edits(plan.run.params.edits), plan.run.params.measure.metrics
    for i, gate in enumerate(plan.run.params.gates):
        try:
            find_columns(gate.score, plan.scores, edits)
        except ParamsError as error:
            if not plan.scores:
                raise ParamsError(f"gates: rows of a {plan.run.recipe} run have no scores: use gates=[]") from None
            why = why_missing(gate.score, measured, edits)
            raise ParamsError(f"gates.{i}: no score {gate.score!r}: {why}" if why else f"gates.{i}: {error}") from None
