"""Small models with random weights and a small dataset: enough to run every stage, without anything trained."""

import os
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, settings

from gan_core.checkpoints.files import Card, save_checkpoint
from gan_core.editing.directions import Direction, save_directions
from gan_core.editing.latent_editor import LatentEditor, save_editor
from gan_core.editing.stylespace import style_widths
from gan_core.encoders.psp import GradualStyleEncoder
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.judges.networks import NETWORKS
from gan_core.loading import model_tensors
from gan_core.paths.base import PATHS
from gan_core.paths.space import Frame
from gan_core.paths.stored import NamedPath, SemanticPaths, save_paths
from gan_core.storage.receipts import Receipt
from gan_core.storage.shards import ShardWriter, shard_name
from gan_core.toy.renderer import ATTRIBUTES
from gan_core.toy.sample import FIELDS, _make_row

if TYPE_CHECKING:
    from tests.swift import Swift

settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")

W_DIM = 16
ABOUT = {"made_by": "tests", "licence": "Apache-2.0", "source": "random weights"}
NETWORK_ARGUMENTS: dict[str, dict[str, Any]] = {
    "identity": {"width": 8, "dim": 16},
    "attributes": {"names": list(ATTRIBUTES), "width": 8, "features": 16},
    "perceptual": {"channels": (8, 8, 8, 8, 8)},
    "landmarks": {"width": 8},
}


def write_models(folder: Path, seed: int = 0) -> dict[str, str]:
    """Write one checkpoint of each kind for a generator of 64 pixels, and return their paths by name in ``models``."""
    paths = {
        name: str(folder / f"{name}.safetensors")
        for name in (*NETWORK_ARGUMENTS, "generator", "encoder", "directions", "latent_edits", "inception", "paths")
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        channels = {4: 16, 8: 16, 16: 16, 32: 8, 64: 8}
        generator = StyleGAN2(64, W_DIM, n_mlp=2, channels=channels)
        encoder = GradualStyleEncoder(generator.n_latent, W_DIM, input_size=64, units=(1, 1, 1, 1), width=8)
        sha256 = _save(paths["generator"], generator, "generator", "stylegan2")
        _save(paths["encoder"], encoder, "encoder", "psp", space="w_plus", generator_sha256=sha256)
        for name, arguments in NETWORK_ARGUMENTS.items():
            _save(paths[name], NETWORKS.get(name)(**arguments), "network", name)
        _save(paths["inception"], NETWORKS.get("inception-fid")(thin=32, size=80), "network", "inception-fid")
        editor = LatentEditor(ATTRIBUTES, ["smile", "yaw"], generator.n_latent, W_DIM, (16, 8), 4, heads=2)
        directions = [Direction(name, torch.randn(W_DIM), sha256) for name in ("smile", "yaw")]
        directions.append(Direction("styles", torch.randn(sum(style_widths(generator))), sha256, space="s"))
    save_directions(paths["directions"], directions, made_by="tests")
    save_editor(paths["latent_edits"], editor, sha256, {})
    moves = SemanticPaths(PATHS.get("curvilinear")(dim=6), Frame(W_DIM, 6), "w", sha256)  # type: ignore[call-arg]
    moves.named = {"smile": NamedPath(2, 3.0, 0.5), "yaw": NamedPath(4, -3.0, 0.5)}
    save_paths(paths["paths"], moves, made_by="tests")
    return paths


def write_dataset(folder: Path, sizes: tuple[int, ...] = (3, 3, 2), seed: int = 7_000_000) -> str:
    """Write shards of toy portraits, the second row of the first being a file that is no image."""
    for index, size in enumerate(sizes):
        with ShardWriter(str(folder / shard_name(index)), FIELDS) as writer:
            keys = [f"portraits/{seed + sum(sizes[:index]) + i}.png" for i in range(size)]
            if index == 0 and size > 1:
                keys[1] = "bad/web-page.jpg"
            writer.write([_make_row(key, seed + sum(sizes[:index]) + i) for i, key in enumerate(keys)])
    return str(folder)


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """Undo what commands set in the environment, which is meant for their own process."""
    before = dict(os.environ)
    yield
    if os.environ != before:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Paths of small checkpoints with random weights, by their name in ``models``."""
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with three shards of 3, 3 and 2 toy portraits, one of them not an image."""
    return write_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of an MLflow store that all tests share (making one takes seconds); experiments are their own."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Prefect server that all tests share, its database in a folder of its own."""
    from prefect.logging.handlers import APILogHandler

    from flows import servers

    folder = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(folder / ".prefect"))
        patch.setattr(servers, "FOLDER", folder / ".servers")
        with chdir(folder):
            running = servers.start("prefect")
        try:
            yield f"{running.url}/api"
            APILogHandler().flush()
        finally:
            assert servers.stop("prefect") == running


@pytest.fixture(scope="session")
def swift_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Swift"]:
    """A real S3 server of our own; skipped where it or its clients are not installed."""
    from tests.swift import REASON, Swift, is_installed

    pytest.importorskip("s3fs", reason="the clients of buckets are an extra: pip install -e '.[s3]'")
    if not is_installed():
        pytest.skip(REASON)
    server = Swift(tmp_path_factory.mktemp("swift"))
    yield server
    server.kill()


@pytest.fixture
def bucket(swift_server: "Swift", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty bucket, which the environment has the keys of."""
    from gan_core.storage.urls import open_fs
    from tests.swift import ENVIRONMENT

    for name, value in (ENVIRONMENT | {"AWS_ENDPOINT_URL": swift_server.address}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    bucket = f"s3://{tmp_path.name.replace('_', '-')}"
    fs, name = open_fs(bucket)
    fs.mkdir(name)
    return bucket


@pytest.fixture
def project(
    tmp_path: Path, tiny_models: dict[str, str], mlflow_store: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """An empty folder to work in, with a ``params.yaml`` for the small models; it is the current folder."""
    params = {
        "run": {"workers": 2, "batch_size": 4},
        "models": tiny_models,
        "tune": {"steps": 2},
        "edits": [{"direction": "smile", "strengths": [-1, 1]}, {"direction": "yaw", "strengths": [1]}],
        "measure": {"swd_images": 4},
        "track": {"uri": mlflow_store, "experiment": tmp_path.name, "grid_rows": 2},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def hashes(output: str) -> dict[str, str]:
    """Return the hash of every shard of a run."""
    found = sorted(Path(output).glob("*/*.receipt.json"))
    return {f"{p.parent.name}/{p.name}": Receipt.model_validate_json(p.read_text()).output_sha256 for p in found}


def _save(path: str, model: torch.nn.Module, kind: Any, name: str, **about: Any) -> str:
    arguments = getattr(model, "arguments", NETWORK_ARGUMENTS.get(name))
    return save_checkpoint(
        path, model_tensors(model), Card(kind=kind, name=name, arguments=arguments, **ABOUT, **about)
    )
