"""Edits by label and by reference on held-out portraits: ``python -m benchmarks.latent_edits``.

Each portrait is encoded (``--encoder``) and edited; a reference is the portrait before it. The regressor reads the
pictures that the generator draws: ``way``, how far the attribute moves to the reference's value; ``others_kept``, 1
less the mean change of the other attributes as a share of what sets the two faces apart; ``inversion``, the same for
encoding alone. Both also by a second judge that no training has seen: ridge regression from the features of
``models.perceptual`` to the factors that other portraits were drawn from (``judge_error`` is its mean error on held-out
ones). Label edits: the share of portraits on the other side whose latents the classifier finds flipped.
"""

import argparse
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from benchmarks.harness import print_result
from gan_core.editing.calibrate import Scorers
from gan_core.editing.latent_editor import load_editor
from gan_core.judges.perceptual import PerceptualLoss, load_perceptual
from gan_core.loading import load_encoder, load_generator
from gan_core.params import load_params
from gan_core.toy.renderer import ATTRIBUTES, FACTOR_NAMES, FACTORS
from gan_core.toy.training.encoder import variant_path
from gan_core.toy.training.portraits import PortraitSet, load_portraits
from gan_core.training.directions import network_eyes
from gan_core.training.latent_edit_scores import label_latents, score_label, score_transfer

LEARNT_FROM = 4000
RIDGE = 30.0
CELLS = 4
COLUMNS = [FACTOR_NAMES.index(name) for name in ATTRIBUTES]


class RidgeJudge:
    """Reads attributes off pictures by linear regression on pooled features, fitted to the truth of portraits."""

    def __init__(self, perceptual: PerceptualLoss, portraits: PortraitSet) -> None:
        self.perceptual = perceptual
        rows = np.arange(min(LEARNT_FROM, len(portraits)))
        x = torch.cat([self._features(portraits.images(part)) for part in np.array_split(rows, 64)]).double()
        y = true_shares(portraits, rows).double()
        self.x_mean, self.x_scale, self.y_mean = x.mean(0), x.std(0) + 1e-6, y.mean(0)
        x = (x - self.x_mean) / self.x_scale
        gram = x.T @ x + RIDGE * x.shape[1] ** 0.5 * torch.eye(x.shape[1], dtype=x.dtype)
        self.weight = torch.linalg.solve(gram, x.T @ (y - self.y_mean))

    @torch.no_grad()
    def _features(self, images: Tensor) -> Tensor:
        maps = [*self.perceptual.maps(images), images]
        return torch.cat([adaptive_avg_pool2d(each, CELLS).flatten(1) for each in maps], dim=1)

    def __call__(self, images: Tensor) -> Tensor:
        """Images ``[B, 3, H, W]`` in [-1, 1] -> shares of each attribute's range ``[B, A]``."""
        x = (self._features(images).double() - self.x_mean) / self.x_scale
        return (x @ self.weight + self.y_mean).float()


def true_shares(portraits: PortraitSet, rows: NDArray[np.int64]) -> Tensor:
    """The attributes that portraits were drawn with, as shares of their ranges ``[B, A]``."""
    low, high = (np.array([getattr(FACTORS[i], end) for i in COLUMNS]) for end in ("low", "high"))
    return torch.from_numpy((portraits.factors[rows][:, COLUMNS] - low) / (high - low)).float()


@torch.no_grad()
def kept_by_inversion(eyes: Scorers, images: Tensor, found: Tensor) -> float:
    """1 less the mean change of the attributes by encoding, as a share of what sets two portraits apart."""
    own = torch.cat([eyes.attributes(part) for part in images.split(64)]).clamp(0, 1)
    return float(1 - (found - own).abs().mean() / (own - own.roll(1, 0)).abs().mean())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--portraits", type=int, default=256)
    parser.add_argument("--encoder", default="style-transformer")
    options = parser.parse_args()
    params = load_params()
    loaded, eyes = load_generator(params.models.generator), network_eyes(params.models)
    generator, editor = loaded.model, load_editor(params.models.latent_edits, loaded).model
    encoder = load_encoder(variant_path(params, options.encoder), loaded, options.encoder).model
    held_out, rows = load_portraits("held_out"), np.arange(options.portraits)
    images = held_out.images(rows)
    judge = RidgeJudge(load_perceptual(params.models.perceptual).model, load_portraits("train"))
    error = float((judge(images).clamp(0, 1) - true_shares(held_out, rows)).abs().mean())
    with torch.no_grad():
        w_plus = torch.cat([encoder.encode(part) for part in images.split(32)])
    second = replace(eyes, names=tuple(ATTRIBUTES), attributes=judge)
    known = {"regressor": label_latents(generator, eyes, w_plus), "judge": label_latents(generator, second, w_plus)}
    result: dict[str, float | dict[str, float]] = {
        "portraits": len(images),
        "judge_error": error,
        "inversion": kept_by_inversion(eyes, images, known["regressor"].shares),
    }
    print(f"second judge: mean error {error:.3f} of a range", flush=True)
    for name in editor.blocks:
        by = {
            who: score_transfer(editor, generator, seen, known[who], name)
            for who, seen in (("regressor", eyes), ("judge", second))
        }
        result[f"reference {name}"] = by["regressor"] | {f"judge_{key}": value for key, value in by["judge"].items()}
        print(f"reference {name}: {result[f'reference {name}']}", flush=True)
    for name in eyes.names:
        flips = {word: score_label(editor, known["regressor"], name, word == "on") for word in ("on", "off")}
        result[f"label {name}"] = flips
        print(f"label {name}: {flips}", flush=True)
    print_result(**result)


if __name__ == "__main__":
    main()
