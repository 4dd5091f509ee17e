"""``edit-dataset checkpoints``: what the commands print, and what they leave behind."""

from pathlib import Path

import pytest

from flows import cli
from gan_core.loading import load_generator
from tests.gan_core.published.test_wrappers import write_wrapper

GOLDEN = Path(__file__).parents[1] / "golden"


def test_inspect_says_what_a_file_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["checkpoints", "inspect", str(GOLDEN / "ada-tiny.pkl")])
    printed = capsys.readouterr().out
    assert end.value.code == 0
    for line in ("layout     ada", "family     stylegan2", "size       16", "n_latent   6", "conv_clamp none"):
        assert line in printed
    assert "non-commercial" in printed and "sha256     " in printed


def test_import_writes_to_the_model_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        cli.main(["checkpoints", "import", str(GOLDEN / "ada-tiny.pkl"), "--licence", "mine", "--subject", "cats"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("data/models/ada-tiny.safetensors: sha256 ")
    loaded = load_generator("data/models/ada-tiny.safetensors")
    assert loaded.model.size == 16 and loaded.card.extra == {"subject": "cats"}


def test_an_encoder_is_paired_and_told_its_variant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def command(*words: str) -> tuple[object, str]:
        with pytest.raises(SystemExit) as end:
            cli.main(["checkpoints", *words])
        printed = capsys.readouterr()
        return end.value.code, printed.out + printed.err

    write_wrapper(tmp_path / "x.pt", "e4e", opts={})
    assert "family     psp or e4e" in command("inspect", "x.pt")[1]
    code, printed = command("import", "x.pt", "x.safetensors", "--no-track")
    assert code == 2 and "say which with --variant psp or --variant e4e" in printed
    assert command("import", str(GOLDEN / "pti-tuned-tiny.pt"), "g.safetensors", "--no-track")[0] == 0
    told = ("x.pt", "paired.safetensors", "--no-track", "--variant", "e4e")
    code, printed = command("import", *told, "--generator", "g.safetensors")
    assert code == 2 and "use --any-generator" in printed
    Path("params.yaml").write_text("models: {generator: g.safetensors}")
    code, printed = command("import", *told, "--any-generator")
    assert code == 0 and "paired.safetensors: taken for e4e, as told" in printed and "paired with g.safetens" in printed
    assert [path.name for path in sorted(tmp_path.glob("*.safetensors"))] == ["g.safetensors", "paired.safetensors"]


def test_a_refused_file_is_one_line_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["checkpoints", "import", str(GOLDEN / "malicious.pt"), "x.safetensors"])
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_list_says_what_there_is_and_under_which_terms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "CurricularFace_Backbone.pth").write_bytes(b"weights")
    with pytest.raises(SystemExit):
        cli.main(["checkpoints", "list", "--folder", str(tmp_path)])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["curricularface"].split()[1] == "here" and lines["arcface"].split()[1] == "fetch"
    assert lines["hopenet"].split()[1:3] == ["by", "hand"]
    assert "non-commercial" in lines["stylegan2-ada-ffhq"]
    for said in ("kept as that of first use", "the same file as on first use"):
        with pytest.raises(SystemExit) as end:
            cli.main(["checkpoints", "fetch", "curricularface", "--folder", str(tmp_path)])
        assert end.value.code == 0 and said in capsys.readouterr().out
