"""The commands ``edit-dataset directions ...``: directions and paths for edits, fitted here or imported."""

import math
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.settings import parse_settings

if TYPE_CHECKING:
    from gan_core.params import Params
    from gan_core.training.fit_paths import PathFit
    from gan_core.training.params import PathsParams

app = typer.Typer(no_args_is_help=True, help="Directions and paths for edits.")

ParamsFile = Annotated[str, typer.Option("--params", help="the parameter file")]
FitSetting = Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE of what is fitted; may be repeated")]
PathsFile = Annotated[str | None, typer.Option("--file", help="a file of paths; models.paths if not given")]
EitherFile = Annotated[
    str | None, typer.Option("--file", help="a file of paths or directions; those of `models` if none")
]


@app.command("list", epilog="Example: edit-dataset directions list")
def list_directions(file: EitherFile = None, params: ParamsFile = "params.yaml") -> None:
    """List the directions of the project's file, and its paths if there are any, with units and scores."""
    from flows.menu import list_file, menu

    for line in menu("directions", params) if file is None else list_file(file):
        typer.echo(line)


@app.command(epilog="Example: edit-dataset directions fit svm mine.safetensors --judge age --judge smile")
def fit(
    method: Annotated[
        str, typer.Argument(help="a path model (such as curvilinear), svm, sefa, closed-form or pca")
    ] = "svm",
    target: Annotated[
        str,
        typer.Argument(
            help="the file of paths to write, or of directions to add to; GENERATOR-directions.safetensors with --judge"
        ),
    ] = "",
    attribute: Annotated[
        list[str] | None, typer.Option(help="svm: what to fit, if not the `attributes` of --set")
    ] = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(help="svm: fit what this judge sees (`list judges`); JUDGE=AMOUNT is what one unit moves it by"),
    ] = None,
    free_of: Annotated[
        list[str] | None, typer.Option(help="svm: an attribute that must not change with it; with --judge a judge")
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="sefa, closed-form, pca: how many directions, if not 5")
    ] = None,
    layers: Annotated[tuple[int, int] | None, typer.Option(help="the same: latents, first and past the last")] = None,
    settings: FitSetting = None,
    params: ParamsFile = "params.yaml",
) -> None:
    """Fit directions or paths in `models.generator` for edits.

    A path model is learnt and named (it resumes): `--set steps=2000`. svm fits boundaries of attributes to latents:
    `--set samples=4000`. sefa, closed-form and pca need the generator alone. With --judge the pictures of any generator
    are judged: `directions fit --judge age`. Directions are added to those that TARGET has. All keys of --set are in
    the documentation under 'Settings of directions fit'.
    """
    from gan_core.device import compute_on
    from gan_core.editing.factorised import METHODS
    from gan_core.errors import ParamsError, near_matches
    from gan_core.params import load_params
    from gan_core.paths.base import PATHS

    loaded = load_params(params)
    _check_options(method, target, judge, attribute, free_of, count, layers, settings)
    with compute_on(loaded.run.device):
        if judge:
            lines = _fit_judged(target, judge, free_of or [], settings, loaded)
        elif method == "svm":
            lines = _fit_svm(target, attribute, free_of or [], settings, loaded)
        elif method in METHODS:
            lines = _factorise(method, target, count or 5, layers, loaded)
        elif method in PATHS.names():
            lines = _fit_paths(method, target, settings, loaded)
        else:
            raise ParamsError(f"no way to fit {method!r}{near_matches(method, ['svm', *METHODS, *PATHS.names()])}")
    for line in lines:
        typer.echo(line)


def _check_options(
    method: str,
    target: str,
    judge: list[str] | None,
    attribute: list[str] | None,
    free_of: list[str] | None,
    count: int | None,
    layers: tuple[int, int] | None,
    settings: list[str] | None,
) -> None:
    from gan_core.editing.factorised import METHODS
    from gan_core.errors import ParamsError

    given = {"--attribute": attribute, "--free-of": free_of, "--count": count, "--layers": layers, "--set": settings}
    own = {name: {"--count", "--layers"} for name in METHODS} | {"svm": {"--attribute", "--free-of", "--set"}}
    taken = own.get(method, {"--set"})
    if unused := [option for option, value in given.items() if value and option not in taken]:
        raise ParamsError(f"{method} has no use for {', '.join(unused)}: leave it out")

    if judge and method != "svm":
        raise ParamsError(
            f"--judge fits by svm, not by {method!r}: `edit-dataset directions fit svm TARGET --judge NAME`"
        )
    if judge and attribute:
        raise ParamsError("--judge names what is fitted: leave --attribute out, or write --judge attributes/NAME")
    if not target and not judge:
        raise ParamsError("name what is fitted and where to: `edit-dataset directions fit METHOD TARGET`, or a --judge")


def _fit_judged(
    target: str, judges: list[str], free_of: list[str], settings: list[str] | None, params: "Params"
) -> list[str]:
    from gan_core.editing.directions import describe_direction
    from gan_core.params import check_sections
    from gan_core.training.judged import fit_judged
    from gan_core.training.params import DirectionsParams

    section = check_sections(DirectionsParams, {}, "--set", parse_settings(settings))
    path = Path(target or f"{Path(params.models.generator).stem}-directions.safetensors")
    directions = fit_judged(path, judges, free_of, section, params.models)
    return [*(describe_direction(direction) for direction in directions), f"models.directions={path}"]


def _fit_paths(model: str, target: str, settings: list[str] | None, params: "Params") -> list[str]:
    from gan_core.paths.stored import describe_named
    from gan_core.training.fit_paths import fit_paths
    from gan_core.training.log import resumable
    from tasks.training_run import TrainingRun

    job = _path_fit(model, target, settings, params)
    learnt = [str(job.target.resolve()), model, job.params.model_dump_json(exclude={"steps"})]  # more steps go on
    name = f"{job.target.stem}-{sha256(repr(learnt).encode()).hexdigest()[:8]}"
    with resumable(name) as folder, TrainingRun(name, job.params, params.track) as run:
        paths, _ = fit_paths(job, folder, run)
    return describe_named(paths)


def _path_fit(model: str, target: str, settings: list[str] | None, params: "Params") -> "PathFit":
    from gan_core.checkpoints.files import file_sha256
    from gan_core.judges.scorers import load_scorers
    from gan_core.paths.stored import check_target
    from gan_core.training.fit_paths import PathFit

    section, models = _paths_section(settings), params.models
    check_target(target, model, file_sha256(models.generator))
    made_by = "edit-dataset directions"
    return PathFit(model, section, models.generator, load_scorers(models), Path(target), made_by)


def _paths_section(settings: list[str] | None) -> "PathsParams":
    from gan_core.params import check_sections
    from gan_core.training.params import PathsParams

    return check_sections(PathsParams, {}, "--set", parse_settings(settings))


def _fit_svm(
    target: str, attributes: list[str] | None, free_of: list[str], settings: list[str] | None, params: "Params"
) -> list[str]:
    from gan_core.editing.directions import describe_direction
    from gan_core.params import check_sections
    from gan_core.training.boundaries import fit_boundaries
    from gan_core.training.params import DirectionsParams

    section = check_sections(DirectionsParams, {}, "--set", parse_settings(settings))
    directions = fit_boundaries(target, attributes or section.attributes, free_of, section, params.models)
    return [describe_direction(direction) for direction in directions]


def _factorise(method: str, target: str, count: int, layers: tuple[int, int] | None, params: "Params") -> list[str]:
    from gan_core.editing.directions import add_directions, describe_direction
    from gan_core.editing.factorised import factorise
    from gan_core.loading import load_generator

    generator = load_generator(params.models.generator)
    directions = factorise(generator, method, count, layers)
    add_directions(target, directions, generator, f"edit-dataset directions fit {method}")
    return [describe_direction(direction) for direction in directions]


@app.command(epilog="Example: edit-dataset directions name support_sets.pt mine.safetensors --space z")
def name(
    source: Annotated[str, typer.Argument(help="a published deformator, support sets or flow (.pt), or a paths file")],
    target: Annotated[str, typer.Argument(help="where the named paths are written")],
    space: Annotated[str, typer.Option(help="the space of published paths: z, w or w_plus")] = "w",
    projective: Annotated[bool, typer.Option("--projective", help="a published deformator of this type")] = False,
    count: Annotated[int | None, typer.Option(help="how many axes of a published flow are paths")] = None,
    settings: FitSetting = None,
    params: ParamsFile = "params.yaml",
) -> None:
    """Give paths of `models.generator` the names of the attributes that they change.

    Which ones: `--set attributes=[smile,yaw]`. All keys of --set are in the documentation under
    'Settings of directions fit'.
    """
    from gan_core.device import compute_on, place
    from gan_core.loading import load_generator
    from gan_core.params import load_params
    from gan_core.paths.stored import describe_named, load_paths
    from gan_core.published.paths import read_published_paths
    from gan_core.training.fit_paths import name_again

    loaded = load_params(params)
    with compute_on(loaded.run.device):
        generator = load_generator(loaded.models.generator)
        if source.endswith(".safetensors"):
            ours = load_paths(source, generator)
            paths, scores = ours.model, ours.card.extra.get("scores", {})
        else:
            paths, scores = place(read_published_paths(source, space, generator, projective, count)), {}
        name_again(_path_fit(paths.model.name, target, settings, loaded), paths, scores)
    for line in describe_named(paths):
        typer.echo(line)


@app.command(epilog="Example: edit-dataset directions rank --top 3")
def rank(
    file: PathsFile = None,
    top: Annotated[int, typer.Option(min=1, help="paths to show for each attribute")] = 3,
    settings: FitSetting = None,
    params: ParamsFile = "params.yaml",
) -> None:
    """Rank all paths of a file by what they change: corr, and corr_l1 as a share of all that the path changes."""
    from gan_core.device import compute_on
    from gan_core.judges.scorers import load_scorers
    from gan_core.loading import load_generator
    from gan_core.params import load_params
    from gan_core.paths.naming import rank_paths
    from gan_core.paths.stored import load_paths

    loaded = load_params(params)
    section = _paths_section(settings)
    with compute_on(loaded.run.device):
        generator, scorers = load_generator(loaded.models.generator), load_scorers(loaded.models)
        paths = load_paths(file or loaded.models.paths, generator).model
        ranking = rank_paths(paths, generator.model, scorers, section.rank_codes, section.amounts[1], section.seed)
    for column, name in enumerate(ranking.names):
        best = ranking.corr[:, column].argsort(descending=True)[:top].tolist()
        found = (f"{k}: {ranking.slope[k, column]:+.3f}, l1 {ranking.corr_l1[k, column]:.2f}" for k in best)
        typer.echo(f"{name:16} {'; '.join(found)}")


@app.command(epilog="Example: edit-dataset directions show smile smile.png")
def show(
    name: Annotated[str, typer.Argument(help="a path's name, or with --direction that of a direction")],
    picture: Annotated[str, typer.Argument(help="the PNG to write")],
    file: EitherFile = None,
    direction: Annotated[bool, typer.Option("--direction", help="show a direction, not a path")] = False,
    rows: Annotated[int, typer.Option(min=1, help="how many latents, one a row")] = 4,
    ends: Annotated[tuple[float, float] | None, typer.Option(help="strengths from and to; else as measured")] = None,
    params: ParamsFile = "params.yaml",
) -> None:
    """Draw some latents, one per row, each at seven strengths."""
    from gan_core.device import compute_on
    from gan_core.errors import ParamsError
    from gan_core.params import load_params
    from gan_core.paths.pictures import direction_strip, path_strip
    from gan_core.storage.atomic import explain_os_errors
    from gan_core.training.log import tile

    if Path(picture).suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ParamsError(f"{picture} is no name of a picture: end it in .png or .jpg")
    if not Path(picture).parent.is_dir():
        raise ParamsError(f"there is no folder {Path(picture).parent} for {picture}: make it, or name another one")
    if ends and not all(map(math.isfinite, ends)):
        raise ParamsError(f"--ends {ends[0]:g} {ends[1]:g}: give two finite strengths")
    loaded = load_params(params)
    models = loaded.models
    with compute_on(loaded.run.device):
        if direction:
            images = direction_strip(file or models.directions, models.generator, name, rows, ends)
        else:
            images = path_strip(file or models.paths, models.generator, name, rows, ends)
    with explain_os_errors(picture):
        tile(images, len(images) // rows).save(picture)
    typer.echo(picture)


@app.command("import", epilog="Example: edit-dataset directions import age.pt mine.safetensors --space w")
def import_(
    source: Annotated[str, typer.Argument(help="a direction file: .npy, .npz, .pt, or one of this project")],
    target: Annotated[str, typer.Argument(help="the directions file to write, or to add to")],
    space: Annotated[str, typer.Option(help="the space that its vectors are in: z, w, w_plus or s")],
    absolute: Annotated[
        bool,
        typer.Option("--absolute/--relative", help="strengths are positions, or shifts"),
    ] = False,
    component: Annotated[int | None, typer.Option(help="which component of a factorisation")] = None,
    entry: Annotated[
        str | None, typer.Option(help="which of several directions: its key, or its number in a list or an array")
    ] = None,
    layers: Annotated[tuple[int, int] | None, typer.Option(help="latents that move: first, and past the last")] = None,
    name: Annotated[
        str | None, typer.Option(help="what the direction is called here; one of this name is replaced")
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="for --space s: a text's embedding minus a neutral one, for StyleCLIP's fs3.npy")
    ] = None,
    beta: Annotated[float, typer.Option(min=0, help="with --text: channels less relevant than this stay")] = 0.15,
    any_generator: Annotated[bool, typer.Option("--any-generator", help="accept one of another generator")] = False,
    params: ParamsFile = "params.yaml",
) -> None:
    """Import a direction from another project into a file of directions of `models.generator`."""
    from gan_core.editing.directions import describe_direction, stored_directions
    from gan_core.params import load_params
    from gan_core.published.directions import Source, import_direction, replaced

    generator = load_params(params).models.generator
    told = Source("", space, absolute, component, layers, name, text, beta, entry)
    before = stored_directions(target)
    direction = import_direction(source, target, generator, told, any_generator)
    typer.echo(describe_direction(direction))
    if old := replaced(before, direction):
        typer.echo(f"{old.name}: this replaces another direction ({old.method or 'no method noted'})")
