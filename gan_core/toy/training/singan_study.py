"""How SOAT and SinGAN do on held-out portraits.

``python -m gan_core.toy.training.singan_study`` reads ``study_singan`` of ``toy.yaml``, goes on where it was stopped,
and writes a row for each seed and method. ``--workers`` is how many trainings go on beside each other, a core each.
"""

import argparse
import logging
from pathlib import Path

from torch import Tensor

from gan_core.batching import in_chunks
from gan_core.compose.base import check_composer
from gan_core.device import compute_on
from gan_core.errors import UserError
from gan_core.judges.extractors import EXTRACTORS
from gan_core.judges.perceptual import load_perceptual
from gan_core.loading import load_encoder, load_generator
from gan_core.params import Params, load_params
from gan_core.precision import keep_freed_memory
from gan_core.storage.images import to_tensor, to_uint8
from gan_core.toy.params import ToyParams, load_toy_params
from gan_core.toy.renderer import render, sample_factors
from gan_core.training.log import FOLDER, SCORES, TrainingLog
from gan_core.training.singan_study import SinganStudy

NAME = "study-singan"
TARGET = SCORES / f"{NAME}.json"
EXTRACTOR = "toy-attr"
SLICE = 1
"""The map of the perceptual trunk just before its second pooling: SIFID has that of Inception."""


def singan_study(toy: ToyParams, params: Params) -> SinganStudy:
    """Return the study over the toy portraits."""
    models = params.models
    generator = load_generator(models.generator)
    encoder, perceptual = load_encoder(models.encoder, generator), load_perceptual(models.perceptual)
    judge = EXTRACTORS.get(EXTRACTOR)(models)

    def portraits(first: int, count: int) -> Tensor:
        seed = toy.portraits.held_out_seed + first
        return to_tensor(list(to_uint8(render(sample_factors(range(seed, seed + count))).image)))

    return SinganStudy(
        toy.study_singan,
        portraits,
        check_composer(generator).model,
        lambda images: in_chunks(encoder.model.encode, images),
        judge.features,
        lambda images: perceptual.model.features(images)[SLICE],
        EXTRACTOR,
        perceptual.model.name.replace("lpips_toy", "toy-perceptual"),
        " ".join([generator.sha256, encoder.sha256, perceptual.sha256, *judge.identity().values()]),
    )


def run_study(toy: ToyParams, params: Params, workers: int = 1) -> Path:
    """Run the study, or go on with it, with so many trainings beside each other; return the file of its rows."""
    folder = FOLDER / NAME
    folder.mkdir(parents=True, exist_ok=True)
    with compute_on(params.run.device):
        singan_study(toy, params).run(folder, TARGET, lambda name: TrainingLog(name, folder), workers)
    return TARGET


def main() -> None:
    """Run the study with the parameters of this folder."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=1, help="trainings beside each other (default 1)")
    options = parser.parse_args()
    keep_freed_memory()
    try:
        rows = run_study(load_toy_params(), load_params(), options.workers)
    except UserError as error:
        parser.error(str(error))
    logging.getLogger(__name__).info("measured: %s", rows)


if __name__ == "__main__":
    main()
