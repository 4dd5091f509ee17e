"""The command line ``edit-dataset``: each command imports what it needs when it runs, so that ``--help`` is quick."""

import os
import sys
from enum import StrEnum
from shlex import quote
from typing import Annotated, Any

import typer

from flows import checkpoints, operations
from flows.directions import app as directions
from flows.settings import Setting, parse_settings
from gan_core.errors import UserError
from gan_core.secrets import hide
from gan_core.stopping import STOPPED_EXIT_CODE, Stopped
from gan_core.wording import counted

app = typer.Typer(
    pretty_exceptions_show_locals=False,
    no_args_is_help=True,
    add_completion=False,
    help="Align, encode, tune, edit and measure image datasets.",
)
server = typer.Typer(no_args_is_help=True, help="The project's own Prefect server, MLflow page and worker.")
app.add_typer(server, name="server")
app.add_typer(directions, name="directions")
app.add_typer(checkpoints.app, name="checkpoints")


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(version("edit-dataset"))
        raise typer.Exit


@app.callback()
def common(
    _: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="which one it is")
    ] = False,
) -> None:
    """Take what every command takes."""


ParamsFile = Annotated[str, typer.Option("--params", help="the parameter file")]


class ServiceName(StrEnum):
    """What ``edit-dataset server`` starts and stops."""

    worker = "worker"
    prefect = "prefect"
    mlflow = "mlflow"


PAGES = [ServiceName.prefect, ServiceName.mlflow]
Services = Annotated[
    list[ServiceName] | None,
    typer.Argument(help="which of them; if none is named, `start` takes the two pages, the others take all"),
]


Update = Annotated[bool, typer.Option("--update", help="redo what differs from the run in OUTPUT")]
Output = Annotated[str, typer.Argument(help="the run's folder or URL")]


@app.command(epilog="Example: edit-dataset init faces --sample")
def init(
    folder: Annotated[str, typer.Argument(help="the new project's folder; files that it has stay as they are")] = ".",
    sample: Annotated[bool, typer.Option("--sample", help="with the dataset of the demo, in data/sample")] = False,
) -> None:
    """Make a project folder: parameters, deployments, a DVC pipeline, and networks for toy portraits."""
    from flows.starter import make_project

    project = make_project(folder, sample)
    typer.echo(f"{folder}: {counted(len(project.written), 'file')} written")
    if project.kept:
        typer.echo(f"  left as they were: {', '.join(project.kept)}")
    if not project.git:
        typer.echo("  no git repository: DVC works without one, and `dvc exp` and versions of data need one")
    steps = ["edit-dataset run data/sample runs/sample"] if sample else ["edit-dataset import PHOTOS data/mine"]
    typer.echo(
        f"next: {' && '.join(([] if folder == '.' else [f'cd {quote(folder)}']) + ['edit-dataset doctor', *steps])}"
    )


@app.command("import", epilog="Example: edit-dataset import ~/photos data/photos --rows-per-shard 500")
def import_(
    source: Annotated[str, typer.Argument(help="a folder of images, WebDataset tars or Parquet files; or packages:")],
    destination: Annotated[str, typer.Argument(help="where the shards go")],
    rows_per_shard: Annotated[int, typer.Option(min=1, help="rows in a full shard")] = 1000,
    kind: Annotated[str | None, typer.Option(help="folder, tar or parquet; detected if not given")] = None,
    follow_links: Annotated[bool, typer.Option("--follow-links", help="read links that leave SOURCE, too")] = False,
) -> None:
    """Turn images into a dataset of shards."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from gan_core.importers import import_dataset

    console = Console(stderr=True)
    columns = SpinnerColumn(), TextColumn("{task.completed:,} images"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task("import")
        report = import_dataset(
            source, destination, rows_per_shard, kind, lambda rows: shown.advance(task, rows), follow_links
        )
    typer.echo(report)
    from tasks.versions import say_untracked

    if told := say_untracked(destination):
        typer.echo(told)


@app.command(epilog="Example: edit-dataset run data/sample runs/demo --set tune.steps=30")
def run(
    source: Annotated[str, typer.Argument(help="a dataset: a folder or URL of shards")] = "data/sample",
    output: Output = "runs/demo",
    params: ParamsFile = "params.yaml",
    settings: Setting = None,
    update: Update = False,
    probe: Annotated[bool, typer.Option("--probe", help="choose both batch sizes by short trials")] = False,
    recipe: Annotated[str, typer.Option(help="what is made: see `edit-dataset list recipes`")] = "edit",
) -> None:
    """Edit a dataset: align, encode, tune, edit and measure; finished shards are skipped."""
    _run_command(recipe, source, output, params, settings, update, probe)


@app.command(epilog="Example: edit-dataset compose runs/demo runs/compositions")
def compose(
    source: Annotated[str, typer.Argument(help="a run, shards with latents, or seeds:NUMBER")] = "runs/demo",
    output: Output = "runs/compositions",
    params: ParamsFile = "params.yaml",
    settings: Setting = None,
    update: Update = False,
) -> None:
    """Draw the compositions of `compose.plan`; finished shards are skipped."""
    _run_command("compose", source, output, params, settings, update)


@app.command(epilog="Example: edit-dataset translate data/translation-sample runs/sketches --set translate.task=sketch")
def translate(
    source: Annotated[str, typer.Argument(help="a dataset: a folder or URL of shards")] = "data/translation-sample",
    output: Output = "runs/translations",
    params: ParamsFile = "params.yaml",
    settings: Setting = None,
    update: Update = False,
) -> None:
    """Translate a dataset by the task of `translate`; finished shards are skipped."""
    _run_command("translate", source, output, params, settings, update)


def _run_command(
    recipe: str,
    source: str,
    output: str,
    params: str,
    settings: list[str] | None,
    update: bool,
    probe: bool = False,
) -> None:
    """Plan a run, so that mistakes are reported before any server starts; then carry it out and print its results."""
    from flows.servers import connect, use_prefect_server
    from gan_core.params import load_params
    from gan_core.recipes.base import plan_run
    from gan_core.report.about import describe_origin

    overrides: dict[str, Any] | None = parse_settings(settings)
    if load_params(params, overrides).encode.encoder == "champion":
        use_prefect_server(typer.echo)
        from flows.champion import resolve_encoder

        overrides = resolve_encoder(params, overrides)
    if probe:
        from gan_core.probe import probe_settings

        overrides = (overrides or {}) | probe_settings(load_params(params, overrides), output, typer.echo)
    plan = plan_run(source, output, params, overrides, update, recipe)
    made = plan.run
    rows, shards = counted(sum(made.rows.values()), "row"), counted(len(made.shards), "shard")
    typer.echo(f"{output}: {rows} in {shards}: {' → '.join(made.stages)}")
    for line in describe_origin(made):
        typer.echo(f"  {line}")
    with plan.held():
        connect(typer.echo)
        from flows.interrupting import interruptible
        from flows.run_dataset import start

        with interruptible():
            start(plan, params, overrides, update)
    from gan_core.pages.stages import describe_stages
    from gan_core.runs.summary import describe_gates, describe_outliers, find_summary

    summary = find_summary(output)
    for line in (*describe_stages(made), *describe_outliers(summary), *describe_gates(summary)):
        typer.echo(line)
    typer.echo(f"report: {made.path('report.html')}")


@app.command("compare-encoders", epilog="Example: edit-dataset compare-encoders data/sample --variant e4e")
def compare(
    source: Annotated[str, typer.Argument(help="a dataset: a folder or URL of shards")] = "data/sample",
    output: Annotated[str, typer.Argument(help="the folder of the runs")] = "runs/encoders",
    variant: Annotated[list[str] | None, typer.Option(help="repeatable; all with a checkpoint if not given")] = None,
    params: ParamsFile = "params.yaml",
    settings: Setting = None,
) -> None:
    """Run the flow once per encoder, compare the encoders in MLflow, and name the best one `champion`."""
    from flows.servers import connect

    overrides = parse_settings(settings)
    connect(typer.echo)
    from prefect import tags

    from flows.compare_encoders import COMPARISON, compare_encoders
    from flows.interrupting import interruptible
    from gan_core.report.comparison import Comparison

    with interruptible(), tags("edit-dataset", "compare-encoders"):
        numbers = compare_encoders(source, output, variant, params, overrides)
    for line in Comparison.of(numbers).lines():
        typer.echo(line)
    typer.echo(f"table: {output}/{COMPARISON}")


@app.command("list", epilog="Example: edit-dataset list encoders")
def list_(
    what: Annotated[str, typer.Argument(help="encoders, metrics, recipes, ...; all kinds if not given")] = "kinds",
    params: ParamsFile = "params.yaml",
) -> None:
    """List the names that parameters accept, those of installed packages included."""
    from flows.menu import menu

    for line in menu(what, params):
        typer.echo(line)


@app.command(epilog="Example: edit-dataset inspect runs/demo")
def inspect(path: Annotated[str, typer.Argument(help="a run's folder, a dataset's folder, or a shard")]) -> None:
    """Show what is in a shard, a dataset or a run: rows by status, columns, hashes."""
    from flows.inspection import describe

    for line in describe(path):
        typer.echo(line)


@app.command(epilog="Example: edit-dataset report runs/demo")
def report(output: Annotated[str, typer.Argument(help="a finished run")] = "runs/demo") -> None:
    """Write the HTML report of a run again."""
    from gan_core.report import write_report

    typer.echo(write_report(output))


@app.command(epilog="Example: edit-dataset calibrate runs/portraits")
def calibrate(
    output: Annotated[str, typer.Argument(help="a finished run over pictures that its generator can draw")],
    params: ParamsFile = "params.yaml",
    settings: Setting = None,
) -> None:
    """Fit what counts as `out_of_domain` for a run's encoder to the run's rows, into the file `models.domain`."""
    from gan_core.judges.domain import find_limits, write_domains
    from gan_core.params import load_params
    from gan_core.recipes.outliers import fit_domain
    from gan_core.runs.run import load_run

    domain, path = fit_domain(load_run(output)), load_params(params, parse_settings(settings)).models.domain
    before = {known.score: f", was {known.limit:.3g}" for known in find_limits(path, domain.model_dump())}
    write_domains(path, [domain])
    for limit in domain.limits:
        fitted = f"({counted(limit.rows, 'row')}{before.get(limit.score, '')})"
        typer.echo(f"{path}: {limit.score} above {limit.limit:.3g} is out of domain {fitted}")


@app.command("calibrate-inversion", epilog="Example: edit-dataset calibrate-inversion runs/demo --rows 48")
def calibrate_inversion(
    output: Annotated[str, typer.Argument(help="a run with encoded rows; with its parameters of tuning")],
    rows: Annotated[int, typer.Option(min=4, help="rows that are tuned, by up to 160 steps")] = 48,
    also: Annotated[
        list[str] | None,
        typer.Option(help="a way beside tuning, such as `features`, instead of all whose networks are there"),
    ] = None,
    only_tuning: Annotated[bool, typer.Option("--only-tuning", help="no other way, though networks are there")] = False,
    params: ParamsFile = "params.yaml",
    settings: Setting = None,
) -> None:
    """Measure what ways to invert cost and bring, into `models.inversion`: `invert` chooses among them for each row.

    Beside the steps of tuning these are the ways whose networks are there, or those that are given.
    """
    from gan_core.inversion.allocation import check_target, write_table
    from gan_core.inversion_trials import measure_table, ways_there
    from gan_core.params import load_params
    from gan_core.runs.run import load_run

    path, run = load_params(params, parse_settings(settings)).models.inversion, load_run(output)
    check_target(path)
    ways = also or ([] if only_tuning else ways_there(run.params))
    write_table(path, measure_table(run, rows, typer.echo, ways))
    typer.echo(f"{path}: for runs with invert.budget_s or invert.target, such as --set invert.budget_s=0.5")


@app.command(epilog="Example: edit-dataset sync runs/demo")
def sync(
    output: Annotated[str, typer.Argument(help="a finished run")] = "runs/demo",
    uri: Annotated[str, typer.Option(help="where to log it; where its parameters say if not given")] = "",
    force: Annotated[bool, typer.Option("--force", help="log it again, even if it is there")] = False,
) -> None:
    """Log a finished run to MLflow, unless it is there already."""
    from flows.servers import use_quiet_environment

    use_quiet_environment()
    from tasks.tracking.runs import sync as upload

    run = upload(output, uri, force)
    typer.echo(f"{'logged to MLflow' if run.new else 'in MLflow already'} ({run.uri}), as run {run.run_id}")


@server.command(epilog="Example: edit-dataset server start mlflow")
def start(names: Services = None) -> None:
    """Start Prefect's server and MLflow's page, unless they run already."""
    from flows import servers

    for name in names or PAGES:
        if name == ServiceName.worker:
            servers.use_prefect_server(typer.echo, needed=True)
        running = servers.start(name, say=typer.echo)
        typer.echo(f"{name}: {running.url}")
        if name == ServiceName.prefect:
            typer.echo(f"  for prefect commands: export PREFECT_API_URL={running.url}/api")


@server.command(epilog="Example: edit-dataset server stop")
def stop(names: Services = None) -> None:
    """Stop what this project has started, and nothing else."""
    from flows import servers

    for name in names or list(ServiceName):
        servers.stop(name, typer.echo)


@server.command(epilog="Example: edit-dataset server status")
def status(names: Services = None) -> None:
    """Show what is running."""
    from flows import servers

    for name in names or list(ServiceName):
        running = servers.find(name)
        typer.echo(f"{name}: {running.url}, process {running.pid}" if running else f"{name}: not running")


operations.add_commands(app, server)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a mistake in the input is one line on stderr and exit code 2, a lost server or bucket 1.

    So is Ctrl-C in a run, with exit code 130.
    """
    try:
        app(args=arguments, prog_name="edit-dataset")
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except Stopped as stopped:
        typer.echo(str(stopped), err=True)
        sys.exit(STOPPED_EXIT_CODE)
    except Exception as error:
        from flows.prefect_api import is_lost
        from flows.proxies import used_proxies
        from flows.servers import is_own
        from gan_core.storage.urls import is_store_error

        if is_store_error(error):
            typer.echo(f"error: the store failed ({error}): finished shards are kept; run again to go on", err=True)
            sys.exit(1)
        if not is_lost(error):
            raise
        address = os.environ.get("PREFECT_API_URL", "")
        lost = f"the Prefect server at {hide(address.removesuffix('/api'))} is lost; finished shards are kept"
        own, other = "start it (`edit-dataset server start prefect`)", "see that it runs, or unset PREFECT_API_URL,"
        if proxies := used_proxies(os.environ):
            other = f"see that it runs and that the proxy of {proxies[0]} reaches it (or add it to NO_PROXY),"
        typer.echo(f"error: {lost}: {own if is_own(address) else other} and run again to go on", err=True)
        _leave(1)


def _leave(code: int) -> None:
    """Exit without exit hooks: those of Prefect try for minutes to reach a lost server."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
