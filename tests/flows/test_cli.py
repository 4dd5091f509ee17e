"""The command line: quick to answer, with an example for each command, and inspection of what it made."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import typer

from flows import cli
from flows.inspection import describe
from gan_core.params import load_params
from gan_core.recipes.base import plan_run
from gan_core.runs.run_stage import run_stage
from gan_core.runs.stage import build_stage

GROUPS = {"server": cli.server, "directions": cli.directions, "checkpoints": cli.checkpoints.app}
COMMANDS = [
    *([command.name or command.callback.__name__] for command in cli.app.registered_commands),
    *(
        [group, command.name or command.callback.__name__]
        for group, app in GROUPS.items()
        for command in app.registered_commands
    ),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_command_has_a_help_with_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([*command, "--help"])
    assert end.value.code == 0
    assert f"Example: edit-dataset {' '.join(command)}" in " ".join(capsys.readouterr().out.split())


def test_help_comes_without_loading_anything_heavy() -> None:
    check = (
        "import sys; from flows import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'prefect', 'mlflow', 'dvc', 'pyarrow', 'pandas') if m in sys.modules])"
    )
    reply = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert reply.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("what", "known"),
    [
        ("encoders", "psp"),
        ("generators", "stylegan2"),
        ("metrics", "fid"),
        ("landmarks", "columns"),
        ("directions", "smile"),
        ("masks", "box"),
        ("parameters", "tune.steps"),
    ],
)
def test_lists_say_what_each_name_is(project: Path, capsys: pytest.CaptureFixture[str], what: str, known: str) -> None:
    _call("list", what)
    lines = capsys.readouterr().out.splitlines()
    line = next(line for line in lines if line.split()[0] == known)
    assert len(line.split()) > 3 and "<function" not in line


def test_directions_have_a_command_of_their_own(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _call("directions", "list")
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["smile", "styles", "yaw", "smile", "yaw"]


def test_inspecting_a_run_tells_finished_from_missing_shards(project: Path, tiny_dataset: str) -> None:
    run = plan_run(tiny_dataset, "out").begin()
    align = build_stage("align", load_params(), tiny_dataset)
    receipts = [run_stage(align, shard, "out") for shard in run.shards[:2]]
    lines = list(describe("out"))
    assert "3 shards, 8 rows" in lines[0]
    assert "2 shards, 6 rows, 5 ok, 1 not_an_image" in lines[1]
    assert "not finished: shard-00002.parquet (it is not there)" in lines[1]
    shard = "\n".join(describe(f"out/align/{run.shards[0]}"))
    assert receipts[0].output_sha256 in shard and "portraits/7000000.png, bad/web-page.jpg" in shard
    assert "3 rows, 2 ok, 1 not_an_image" in shard and "image (struct" in shard


def test_importing_and_inspecting_a_folder(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "photos").mkdir()
    for name in ("a.png", "b.jpg"):
        (project / "photos" / name).write_bytes(b"not really")
    _call("import", "photos", "dataset", "--rows-per-shard", "1")
    assert "imported 2 rows into 2 shards" in capsys.readouterr().out
    assert [line for line in describe("dataset") if line.startswith("dataset/")] == [
        "dataset/shard-00000.parquet: 1 row, 1 ok",
        "dataset/shard-00001.parquet: 1 row, 1 ok",
    ]


def test_an_import_says_what_it_left_out_and_follows_links_if_asked(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "photos").mkdir()
    (project / "away.png").write_bytes(b"away")
    (project / "photos" / "a.png").write_bytes(b"not really")
    (project / "photos" / "metadata.csv").touch()
    (project / "photos" / "link.png").symlink_to(project / "away.png")
    _call("import", "photos", "dataset")
    assert capsys.readouterr().out.splitlines() == [
        f"imported 2 rows into 1 shard (1 ok, 1 unreadable) from {project}/photos; 1 file left out",
        "  rejected: 1 unreadable: a link that leaves the source: --follow-links reads it (link.png)",
        "  left out: 1 tables (metadata.csv)",
    ]
    _call("import", "photos", "dataset", "--follow-links")
    assert f"imported 2 rows into 1 shard (2 ok) from {project}/photos" in capsys.readouterr().out


def test_columns_that_all_shards_have_are_shown_once(project: Path, tiny_dataset: str) -> None:
    lines = list(describe(tiny_dataset))
    assert (
        sum(line.startswith("  keys") for line in lines) == 3
        and sum(line.startswith("  columns") for line in lines) == 1
    )


def test_the_commands_stand_in_the_order_of_their_use_and_the_version_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert [command[0] for command in COMMANDS[:3]] == ["init", "import", "run"]
    _call("--version")
    assert capsys.readouterr().out == f"{version('edit-dataset')}\n"


def test_an_import_that_git_would_take_says_so(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "photos").mkdir()
    (project / "photos/a.png").write_bytes(b"not really")
    told = "before `git add`: `dvc add dataset`"
    _call("import", "photos", "dataset")
    assert told not in capsys.readouterr().out
    subprocess.run(["git", "init", "-q"], check=True)
    _call("import", "photos", "dataset")
    assert told in capsys.readouterr().out
    (project / ".gitignore").write_text("/dataset\n")
    _call("import", "photos", "dataset")
    assert told not in capsys.readouterr().out


def _call(*arguments: str) -> None:
    try:
        cli.main(list(arguments))
    except (SystemExit, typer.Exit) as end:
        assert getattr(end, "code", 0) in (0, None)
