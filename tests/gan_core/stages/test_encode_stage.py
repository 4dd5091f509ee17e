import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gan_core.checkpoints.files import load_checkpoint, save_checkpoint
from gan_core.encoders.fast import TOLERANCE
from gan_core.errors import CheckpointError
from gan_core.loading import load_encoder, load_generator
from gan_core.params import EncodeParams, ModelPaths
from gan_core.precision import has_bfloat16
from gan_core.rows import Rejected, Row
from gan_core.stages.encode import MOST_ALIGNED, EncodeStage
from gan_core.storage.images import load_pictures, stack_pictures, to_uint8


@pytest.fixture(scope="module")
def stage(models: ModelPaths) -> EncodeStage:
    return EncodeStage(EncodeParams(), models)


def test_rows_get_their_latent_and_its_image(stage: EncodeStage, models: ModelPaths, aligned_rows: list[Row]) -> None:
    loaded = load_generator(models.generator)
    encoder, generator = load_encoder(models.encoder, loaded, "psp").model, loaded.model
    expected = encoder.encode(
        stack_pictures([load_pictures(row, ["image"], MOST_ALIGNED) for row in aligned_rows], "image")
    )
    results = stage.process(aligned_rows)
    assert len(results) == len(aligned_rows)
    latents = np.stack([row["latent"] for row in results])
    assert latents.dtype == np.float32
    np.testing.assert_allclose(latents, expected, rtol=1e-4, atol=1e-5)
    drawn = to_uint8(generator.synthesis(torch.from_numpy(latents)))
    stored = np.stack([Image.open(io.BytesIO(row["reconstruction"]["bytes"])) for row in results])
    assert np.abs(stored.astype(int) - drawn).max() <= 1


def test_company_order_and_threads_change_no_bit(stage: EncodeStage, aligned_rows: list[Row]) -> None:
    together = stage.process(aligned_rows)
    reversed_rows = list(reversed(stage.process(aligned_rows[::-1])))
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    alone = [stage.process([row])[0] for row in aligned_rows]
    assert torch.get_num_threads() == before + 1
    torch.set_num_threads(before)
    for a, b, c in zip(together, reversed_rows, alone, strict=True):
        assert a["latent"].tobytes() == b["latent"].tobytes() == c["latent"].tobytes()
        assert a["reconstruction"]["bytes"] == b["reconstruction"]["bytes"] == c["reconstruction"]["bytes"]


def test_a_latent_that_is_not_finite_is_rejected(models: ModelPaths, aligned_rows: list[Row]) -> None:
    stage = EncodeStage(EncodeParams(), models)
    plain = stage.encoder.encode

    def poisoned(images: torch.Tensor) -> torch.Tensor:
        latents = plain(images)
        latents[1] = float("nan")
        return latents

    stage.encoder.encode = poisoned  # type: ignore[method-assign]
    results = stage.process(aligned_rows[:3])
    assert [isinstance(row, Rejected) for row in results] == [False, True, False]
    assert results[1].status == "bad_latent"


def test_the_identity_follows_the_checkpoints(stage: EncodeStage, models: ModelPaths, tmp_path: Path) -> None:
    stored = load_checkpoint(models.encoder)
    tensors, card = stored.model, stored.card
    tensors["latlayer1.bias"] += 1
    save_checkpoint(tmp_path / "e", tensors, card)
    other = EncodeStage(EncodeParams(), models.model_copy(update={"encoder": str(tmp_path / "e")}))
    assert other.identity().keys() == stage.identity().keys()
    assert other.identity() != stage.identity()


def test_fast_precision_is_other_work_with_nearly_the_same_latents(
    stage: EncodeStage, models: ModelPaths, aligned_rows: list[Row]
) -> None:
    fast = EncodeStage(EncodeParams(), models, precision="fast")
    assert fast.identity() != stage.identity()
    exact, near = (np.stack([row["latent"] for row in s.process(aligned_rows)]) for s in (stage, fast))
    assert near.dtype == np.float32
    offsets = exact - stage.encoder.latent_avg.numpy()
    assert np.sqrt(np.square(near - exact).mean()) < TOLERANCE * np.sqrt(np.square(offsets).mean())
    assert not has_bfloat16() or not np.array_equal(near, exact)


def test_an_encoder_of_another_generator_is_refused(models: ModelPaths, tmp_path: Path) -> None:
    stored = load_checkpoint(models.generator)
    tensors, card = stored.model, stored.card
    tensors["conv1.noise.weight"] += 1
    save_checkpoint(tmp_path / "g", tensors, card)
    with pytest.raises(CheckpointError, match="was made for the generator"):
        EncodeStage(EncodeParams(), models.model_copy(update={"generator": str(tmp_path / "g")}))


def test_a_file_of_another_variant_or_none_is_refused(models: ModelPaths, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds the encoder 'psp', not 'e4e': choose that one"):
        EncodeStage(EncodeParams(encoder="e4e"), models)
    content, path = Path(models.encoder).read_bytes(), tmp_path / "e.safetensors"
    for bad, said in ((content[: len(content) // 2], "not a whole safetensors file"), (b"hello", "safetensors")):
        path.write_bytes(bad)
        with pytest.raises(CheckpointError, match=said) as raised:
            EncodeStage(EncodeParams(), models.model_copy(update={"encoder": str(path)}))
        assert "\n" not in str(raised.value)
