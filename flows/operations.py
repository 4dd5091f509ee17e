"""The operator's commands: bring the servers up and down."""

import typer

UP = "Example: edit-dataset server up"
DOWN = "Example: edit-dataset server down"


def up() -> None:
    """Start Prefect, MLflow and a worker, and deploy the flows of prefect.yaml (`make up`)."""
    from flows import servers

    address = servers.up(typer.echo)
    typer.echo("run one: prefect deployment run edit-dataset/local --watch -p output=runs/mine")
    typer.echo(f"  from another folder first: export PREFECT_API_URL={address}")


def down() -> None:
    """Stop the worker and both servers of this project, and nothing else (`make down`)."""
    from flows import servers

    servers.down(typer.echo)


def add_commands(app: typer.Typer, server: typer.Typer) -> None:
    """Put the commands into the command line."""
    server.command(epilog=UP)(up)
    server.command(epilog=DOWN)(down)
