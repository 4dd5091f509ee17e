"""The operator's commands: bring the servers up and down, register encoders, compare nights."""

from typing import Annotated

import typer

from gan_core.errors import UserError
from gan_core.secrets import hide
from gan_core.stopping import Stopped
from gan_core.wording import counted

MOVED_EXIT_CODE = 3
UP = "Example: edit-dataset server up"
DOWN = "Example: edit-dataset server down"


def up(
    host: Annotated[
        str, typer.Option(help="this machine's address at which the pages listen; by default only it reaches them")
    ] = "127.0.0.1",
) -> None:
    """Start Prefect, MLflow and a worker, and deploy the flows of prefect.yaml (`make up`)."""
    from flows import servers

    address = servers.up(typer.echo, host)
    typer.echo("run one: prefect deployment run edit-dataset/local --watch -p output=runs/mine")
    typer.echo(f"  from another folder first: export PREFECT_API_URL={hide(address)}")


def down() -> None:
    """Stop the worker and both servers of this project, and nothing else (`make down`)."""
    from flows import servers

    servers.down(typer.echo)


def status(
    folder: Annotated[str, typer.Argument(help="a run, or a folder with runs in it")] = "runs",
) -> None:
    """Show the state of runs: shards by state, rows by reason, and what is not logged yet."""
    from flows.status import describe_runs

    for line in describe_runs(folder):
        typer.echo(line)


def retry_failed(
    output: Annotated[str, typer.Argument(help="a run's folder or URL")],
    reason: Annotated[str, typer.Option(help="the status of the rows, such as no_face")],
    params: Annotated[str | None, typer.Option("--params", help="the run's own parameters if not given")] = None,
    only_invalidate: Annotated[bool, typer.Option("--no-run", help="only mark the shards; run them later")] = False,
) -> None:
    """Make the shards again that have rows with this reason, from the stage that rejected them."""
    from dataclasses import replace

    from flows.status import find_failed, invalidate
    from gan_core.params import load_params
    from gan_core.recipes.base import plan_params, recipe_of
    from gan_core.runs.run import load_run

    run = load_run(output)
    failed = find_failed(run, reason)
    chosen = load_params(params) if params else run.params
    plan = plan_params(chosen, run.source, output, update=params is not None, recipe=recipe_of(run).name)
    again = [(stage, shard) for stage, shard in failed if stage in plan.run.stages and shard in plan.run.shards]

    def begin() -> None:  # the last thing before the work: nothing is withdrawn that isn't made again
        plan.write()
        invalidate(run, again)

    with plan.held():
        if only_invalidate:
            invalidate(run, again)
        names = [f"{stage}/{shard}" for stage, shard in again]
        typer.echo(
            f"{counted(len(names), 'shard')} to make again: {', '.join(names[:4])}{' ...' if len(names) > 4 else ''}"
        )
        if not only_invalidate:
            from flows.servers import connect

            connect(typer.echo)
            from flows.interrupting import interruptible
            from flows.run_dataset import start

            with interruptible():
                start(replace(plan, write=begin), params or "params.yaml", update=params is not None)
    if not only_invalidate:
        status(output)


def doctor(
    params: Annotated[str, typer.Option("--params", help="the parameter file")] = "params.yaml",
) -> None:
    """Check versions, devices, servers, disk and checkpoints, and say how to fix what is wrong; exit code 1 then."""
    from flows.doctor import report

    if not report(typer.echo, params):
        raise typer.Exit(1)


def reevaluate(
    datasets: Annotated[list[str] | None, typer.Argument(help="folders or URLs of shards")] = None,
    output: Annotated[str, typer.Option(help="where the nights' runs, history and page are")] = "runs/nightly",
    params: Annotated[str, typer.Option("--params", help="the parameter file")] = "params.yaml",
    date: Annotated[str, typer.Option(help="the night's date, such as 2026-11-21; today's in UTC if not given")] = "",
    accept: Annotated[bool, typer.Option("--accept", help="take tonight's numbers as the new usual ones")] = False,
) -> None:
    """Measure every registered encoder on the datasets and compare with earlier nights; exit code 3 if one moved."""
    from flows.servers import connect

    connect(typer.echo)
    from prefect import tags

    from flows.interrupting import interruptible
    from flows.reevaluate import MOVED, night_of, reevaluate_nightly
    from gan_core.storage.urls import exists

    if date:
        night_of(date)

    with interruptible(), tags("edit-dataset", "nightly"):
        ended = reevaluate_nightly(
            datasets or ["data/sample"], output, params, date=date, accept=accept, return_state=True
        )
        if ended.is_cancelled():
            raise Stopped(ended.message)
        if isinstance(error := ended.result(raise_on_failure=False), BaseException):
            raise error
    typer.echo(f"{ended.name}: {ended.message}")
    if exists(page := f"{output}/report.html"):
        typer.echo(f"page: {page}")
    if not ended.is_completed():
        raise typer.Exit(MOVED_EXIT_CODE if ended.name == MOVED else 1)


def register(
    path: Annotated[str, typer.Argument(help="the checkpoint of an encoder, a generator or directions")],
    name: Annotated[str | None, typer.Option(help="its name in the registry; the architecture's if not given")] = None,
    alias: Annotated[list[str] | None, typer.Option(help="such as champion; may be repeated")] = None,
    params: Annotated[str, typer.Option("--params", help="the parameter file: track.uri is used")] = "params.yaml",
) -> None:
    """Make a checkpoint the newest version of a model in MLflow's registry; nights measure the newest encoders."""
    from flows.servers import prefect_address, use_quiet_environment

    use_quiet_environment()
    from gan_core.params import load_params
    from tasks.tracking.address import tracking_uri
    from tasks.tracking.registry import NameTakenError, register_checkpoint, registered_encoders

    track = load_params(params).track
    before = registered_encoders(tracking_uri(track))
    try:
        made = register_checkpoint(name, path, tracking_uri(track), alias or [], track.experiment)
    except NameTakenError as error:
        raise UserError(f"{error}: choose another name with --name") from None
    typer.echo(f"{made.name} version {made.version}: {made.path}, sha256 {made.sha256[:12]}")
    is_new = made not in before and made in registered_encoders(tracking_uri(track))
    if is_new and (address := prefect_address()):
        from flows.automations import announce

        if announce(made, address):
            typer.echo("Prefect was told: the deployment reevaluate-nightly/nightly measures it, if it is deployed")


def view(
    outputs: Annotated[list[str], typer.Argument(help="finished runs; the rows are those of the first")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="the first port to try")] = 8300,
) -> None:
    """Open a page on this machine to look at rows: filter, sort, compare runs, mark rows; Ctrl-C ends it."""
    import uvicorn

    from flows.servers import free_port
    from flows.viewer import make_app
    from gan_core.runs.run import load_run

    app = make_app([load_run(output) for output in outputs])
    chosen = free_port(port)
    typer.echo(f"http://127.0.0.1:{chosen} (Ctrl-C ends it); marks go to {outputs[0]}/marks.json")
    uvicorn.run(app, host="127.0.0.1", port=chosen, log_level="warning")


def publish(
    output: Annotated[str, typer.Argument(help="a run in which this stage is finished")] = "runs/demo",
    destination: Annotated[str, typer.Argument(help="the dataset's folder")] = "data/edited",
    stage: Annotated[str, typer.Option(help="whose shards; the run's last one with pictures if not given")] = "",
    push: Annotated[bool, typer.Option("--push", help="send it to DVC's remote as well")] = False,
    hub: Annotated[str, typer.Option(help="send it to this dataset of the Hugging Face hub too: OWNER/NAME")] = "",
) -> None:
    """Copy a stage of a finished run to a dataset that DVC tracks; of a run with gates, the rows that pass them all."""
    from flows.hub import connect, upload
    from flows.publish import publish as make
    from tasks.versions import keep_output

    client = connect(hub) if hub else None
    typer.echo(f"{destination}: version {make(output, destination, stage, push, typer.echo)}")
    for line in keep_output(destination, pushed=push):
        typer.echo(line)
    if client is not None:
        typer.echo(f"hub: {upload(client, destination, hub)}")


def export(
    output: Annotated[str, typer.Argument(help="a finished run")],
    destination: Annotated[str, typer.Argument(help="a folder of its own")],
    form: Annotated[str, typer.Option("--format", help="imagefolder, webdataset, parquet, csv or pairs")],
    stage: Annotated[str, typer.Option(help="whose pictures; the run's last stage with pictures if not given")] = "",
    picture: Annotated[list[str] | None, typer.Option(help="a column, such as smile@+1; repeatable")] = None,
    before: Annotated[str, typer.Option(help="pairs: what they begin with, encoded or tuned if not aligned")] = "",
) -> None:
    """Write the rows of a run that pass as files for other programs, with a ledger of those that are left out."""
    from flows.exporting import export as write

    write(output, destination, form, stage, picture or [], before, lambda said: typer.echo(f"{destination}: {said}"))


def add_commands(app: typer.Typer, server: typer.Typer) -> None:
    """Put the commands into the command line."""
    app.command(epilog="Example: edit-dataset reevaluate data/sample --output runs/nightly")(reevaluate)
    app.command(epilog="Example: edit-dataset register data/models/e4e.safetensors --alias candidate")(register)
    app.command(epilog="Example: edit-dataset status runs")(status)
    app.command("retry-failed", epilog="Example: edit-dataset retry-failed runs/demo --reason no_face")(retry_failed)
    app.command(epilog="Example: edit-dataset doctor")(doctor)
    app.command(epilog="Example: edit-dataset view runs/demo runs/other")(view)
    app.command(epilog="Example: edit-dataset publish runs/demo data/edited --stage edit --push")(publish)
    app.command(epilog="Example: edit-dataset export runs/demo data/pairs --format pairs")(export)
    server.command(epilog=UP)(up)
    server.command(epilog=DOWN)(down)
