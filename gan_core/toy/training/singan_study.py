"""How SOAT and SinGAN do on held-out portraits.

``python -m gan_core.toy.training.singan_study`` reads ``study_singan`` of ``toy.yaml``, goes on where it was stopped,
and writes a row for each seed and method. ``--workers`` is how many trainings go on beside each other, a core each.
"""

from torch import Tensor

from gan_core.batching import in_chunks
from gan_core.compose.base import check_composer
from gan_core.judges.extractors import EXTRACTORS
from gan_core.judges.perceptual import load_perceptual
from gan_core.loading import load_encoder, load_generator
from gan_core.params import Params
from gan_core.storage.images import to_tensor, to_uint8
from gan_core.toy.params import ToyParams
from gan_core.toy.renderer import render, sample_factors
from gan_core.toy.training.study_command import run_command
from gan_core.training.log import SCORES
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


def main() -> None:
    """Run the study with the parameters of this folder."""
    run_command(__doc__ or "", {"": (NAME, singan_study)})


if __name__ == "__main__":
    main()
