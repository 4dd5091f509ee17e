"""The commands ``edit-dataset checkpoints ...``: inspect published weights and import them into the model store."""

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, help="Inspect, import and download published weights.")
STORE = "data/models"
FOLDER = "data/checkpoints"

File = Annotated[str, typer.Argument(help="a .pt, .pth, .pkl or .safetensors file")]

Variant = Annotated[
    str | None,
    typer.Option(help="psp or e4e (restyle-psp, restyle-e4e), for an encoder's file that doesn't say which it is"),
]

Subject = Annotated[
    str | None,
    typer.Option(help="what the pictures show if not faces, such as cars: metrics of faces are then left out"),
]

Folder = Annotated[str, typer.Option(help="where downloaded files are")]


@app.command(epilog="Example: edit-dataset checkpoints inspect stylegan2-ffhq-config-f.pt")
def inspect(file: File, variant: Variant = None) -> None:
    """Say what a checkpoint holds and whether it can be imported, without running anything in it."""
    from gan_core.published.layouts import inspect_checkpoint

    for name, value in inspect_checkpoint(file, variant).items():
        typer.echo(f"{name:10} {_text(value)}")


@app.command("import", epilog="Example: edit-dataset checkpoints import ffhq.pkl data/models/ffhq.safetensors")
def import_(
    file: File,
    target: Annotated[str | None, typer.Argument(help="the file to write; in the model store if not given")] = None,
    licence: Annotated[str | None, typer.Option(help="the terms you have it under, for the card")] = None,
    variant: Variant = None,
    subject: Subject = None,
    generator: Annotated[
        str | None, typer.Option(help="write the encoder alone, for this generator instead of the one in its file")
    ] = None,
    any_generator: Annotated[
        bool,
        typer.Option(
            "--any-generator", help="bind it to a generator it wasn't made for: --generator, or that of --params"
        ),
    ] = False,
    params: Annotated[str, typer.Option("--params", help="the parameter file")] = "params.yaml",
    track: Annotated[bool, typer.Option(help="track the result with DVC")] = True,
) -> None:
    """Convert a checkpoint to safetensors with a card, and track it with DVC where there is a DVC project."""
    from gan_core.checkpoints.files import read_card
    from gan_core.params import load_params
    from gan_core.published.layouts import import_checkpoint
    from gan_core.published.pairing import pair_encoder

    path = target or f"{STORE}/{Path(file).stem}.safetensors"
    if generator or any_generator:
        other = generator or load_params(params).models.generator
        written = pair_encoder(file, path, other, any_generator, licence, variant, subject)
    else:
        written = import_checkpoint(file, path, licence, variant, subject)
    for name, sha256 in written.items():
        typer.echo(f"{name}: sha256 {sha256}")
        if notes := read_card(name).notes:
            typer.echo(f"{name}: {notes}")
    if track:
        from tasks.versions import track as add

        for name in add(list(written)):
            typer.echo(f"{name}: tracked by DVC; `git add {name}.dvc`, then `dvc push`")


@app.command("list", epilog="Example: edit-dataset checkpoints list")
def list_(folder: Folder = FOLDER) -> None:
    """List published checkpoints: what each is, its terms, where to get it, and whether it is here."""
    from gan_core.published.sources import SOURCES

    for name, source in SOURCES.items():
        here = "here" if (Path(folder) / source.file).exists() else "by hand" if source.way == "hand" else "fetch"
        typer.echo(f"{name:24} {here:8} {source.what} ({source.file}); {source.licence}; {source.page}")


@app.command(epilog="Example: edit-dataset checkpoints fetch inception")
def fetch(
    name: Annotated[
        str, typer.Argument(help="a name from `edit-dataset checkpoints list`, or hf://OWNER/NAME/FILE of the hub")
    ],
    folder: Folder = FOLDER,
) -> None:
    """Download a published checkpoint and check its hash; run again to go on after an interruption.

    The hash is written beside the file on first use, and a file with another one is refused from then on. Google Drive
    and Hugging Face's hub need the extra `fetch`.
    """
    from gan_core.published import fetching
    from gan_core.published.sources import find_source

    fetched = fetching.fetch(name, folder)
    typer.echo(f"{fetched.path}: sha256 {fetched.sha256}")
    typer.echo(f"terms: {find_source(name).licence}")
    if not fetched.verified and fetched.known:
        typer.echo("no hash of it is published: it is the same file as on first use")
    elif not fetched.verified:
        typer.echo(
            "no hash of it is published, so this one is kept as that of first use: compare it with a copy you trust"
        )
    typer.echo(f"next: edit-dataset checkpoints import {fetched.path}")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items())
    return {True: "yes", False: "no", None: "none"}[value] if value is None or isinstance(value, bool) else str(value)
