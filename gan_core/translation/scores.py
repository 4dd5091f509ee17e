"""Scores of translations by name, per row; each task has its own selection."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_core.batching import in_chunks
from gan_core.judges.networks import AttributeRegressor, load_network
from gan_core.judges.perceptual import load_perceptual, pair_distances
from gan_core.judges.segmenter import count_overlaps, mean_iou
from gan_core.meaning import Meaning
from gan_core.metrics.pixel import mse, psnr
from gan_core.params import ModelPaths
from gan_core.translation.degradations import reduce_bicubic
from gan_core.translation.inputs import EncoderInput, draw_sketch

YAW_DEGREES = 26.0
"""A yaw of 1 or -1 from the attribute regressor is a head turned by this much: the ends of the range it learnt."""
NETWORKS = ("identity", "attributes", "segmenter")
NEAR = 1
"""Distance in pixels up to which two lines count as equal."""


@dataclass(frozen=True)
class Translated:
    """A translated batch: ``output`` and its ``variants``, all ``[B, 3, S, S]`` around [-1, 1], and their inputs.

    ``inputs [B, C, S, S]`` is the encoder's input, and ``truth [B, 3, S, S]`` the images it was made from, if known.
    """

    seen: Sequence[EncoderInput]
    inputs: Tensor
    output: Tensor
    variants: Sequence[Tensor]
    truth: Tensor | None


class Scorer:
    """Computes the scores ``names`` of a batch; each network that they need is loaded once."""

    def __init__(self, names: Sequence[str], models: ModelPaths) -> None:
        self.names = tuple(names)
        wanted = {network for name in self.names for network in SCORES[name].networks}
        networks = {name: load_network(getattr(models, name), name) for name in NETWORKS if name in wanted}
        distance = load_perceptual(models.perceptual) if "perceptual" in wanted else None
        self.networks = {name: loaded.model for name, loaded in networks.items()}
        self.distance = distance.model if distance else None
        hashes = {name: network.sha256 for name, network in networks.items()}
        hashes |= {"perceptual": distance.sha256} if distance else {}
        self.files = {f"{name}_sha256": sha256 for name, sha256 in sorted(hashes.items())}

    def score(self, x: Translated) -> dict[str, list[float]]:
        """Return the scores of each row by name."""
        return {name: SCORES[name].compute(self, x).cpu().double().tolist() for name in self.names}

    def lpips(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the perceptual distance ``[B]`` of images ``[B, 3, S, S]``."""
        assert self.distance is not None
        return pair_distances(self.distance, x, y)

    def cosine(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the cosine ``[B]`` of the identity embeddings of images ``[B, 3, S, S]``."""
        embed = self.networks["identity"]
        return (in_chunks(embed, x) * in_chunks(embed, y)).sum(1)

    def degrees(self, x: Tensor) -> Tensor:
        """Return the absolute yaw ``[B]`` of images ``[B, 3, S, S]`` in degrees, by the attribute regressor."""
        regressor = self.networks["attributes"]
        assert isinstance(regressor, AttributeRegressor)
        return in_chunks(regressor, x)[:, regressor.names.index("yaw")].abs() * YAW_DEGREES

    def label(self, x: Tensor) -> Tensor:
        """Return the segmenter's label ids ``[B, S, S]`` for images ``[B, 3, S, S]``, resampled to their size."""
        ids = in_chunks(lambda images: self.networks["segmenter"](images).argmax(1), x)
        return F.interpolate(ids[:, None].float(), x.shape[2:], mode="nearest")[:, 0].long()


@dataclass(frozen=True)
class Score:
    """A score: the function that computes it ``[B]``, its meaning, and the networks that it needs."""

    compute: Callable[[Scorer, Translated], Tensor]
    meaning: Meaning
    networks: tuple[str, ...] = ()
    needs_truth: bool = False


def truth_of(x: Translated) -> Tensor:
    """Return the images ``[B, 3, S, S]`` that inputs were made from; where they aren't known nothing asks for them."""
    assert x.truth is not None
    return x.truth


def label_agreement(scorer: Scorer, x: Translated) -> Tensor:
    """Return the mean IoU ``[B]`` between the given label map and that of the output."""
    pairs = zip(scorer.label(x.output), x.inputs.argmax(1), strict=True)
    return torch.tensor([mean_iou(count_overlaps(*pair)) for pair in pairs])


def edge_agreement(scorer: Scorer, x: Translated) -> Tensor:
    """Return the F1 score ``[B]`` of the given lines and the borders in the output, within ``NEAR`` pixels."""
    drawn, given = draw_sketch(scorer.label(x.output)) < 0.5, x.inputs < 0.5
    precision, recall = _share_near(drawn, given), _share_near(given, drawn)
    return 2 * precision * recall / (precision + recall).clamp(min=1e-9)


def _share_near(lines: Tensor, others: Tensor) -> Tensor:
    around = F.max_pool2d(others.float(), 2 * NEAR + 1, stride=1, padding=NEAR)
    return (lines * around).sum((1, 2, 3)) / lines.sum((1, 2, 3)).clamp(min=1)


def data_consistency(scorer: Scorer, x: Translated) -> Tensor:
    """Return the PSNR ``[B]`` between output and input, both reduced by the row's factor."""
    rows = zip(x.output, x.inputs, (seen.factor for seen in x.seen), strict=True)
    small = [[reduce_bicubic(picture[None], factor) for picture in (out, given)] for out, given, factor in rows]
    return torch.cat([psnr(out.clamp(-1, 1), given) for out, given in small])


def hidden_error(scorer: Scorer, x: Translated, hidden: bool = True) -> Tensor:
    """Return the mean squared error ``[B]`` where the mask hides the image, or where it doesn't."""
    masks = (
        torch.stack([seen.hidden if seen.hidden is not None else torch.zeros(()) for seen in x.seen])
        .bool()
        .to(x.output.device)
    )
    inside = masks if hidden else ~masks
    error = (x.output - truth_of(x)).square().mean(1)
    return (error * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)


def diversity(scorer: Scorer, x: Translated) -> Tensor:
    """Return the mean perceptual distance ``[B]`` over all pairs of variants."""
    pairs = [scorer.lpips(one, other) for one, other in combinations(x.variants, 2)]
    return torch.stack(pairs).mean(0)


SCORES: dict[str, Score] = {
    "mse": Score(
        lambda s, x: mse(x.output, truth_of(x)),
        Meaning("MSE", "", "lower", 4, "Mean squared difference from the truth, pixels in [−1, 1]."),
        needs_truth=True,
    ),
    "psnr": Score(
        lambda s, x: psnr(x.output, truth_of(x)),
        Meaning("PSNR", "dB", "higher", 1, "Peak signal-to-noise ratio: how close the pixels are to the truth."),
        needs_truth=True,
    ),
    "lpips": Score(
        lambda s, x: s.lpips(x.output, truth_of(x)),
        Meaning("LPIPS", "", "lower", 3, "Perceptual distance from the truth; 0 means that it looks the same."),
        ("perceptual",),
        needs_truth=True,
    ),
    "identity": Score(
        lambda s, x: s.cosine(x.output, truth_of(x)),
        Meaning("Identity", "", "higher", 3, "Cosine between the face embeddings of output and truth; 1 is equal."),
        ("identity",),
        needs_truth=True,
    ),
    "yaw_before": Score(
        lambda s, x: s.degrees(x.inputs),
        Meaning("Yaw before", "°", "", 1, "How far the head of the input is turned to either side."),
        ("attributes",),
    ),
    "yaw_after": Score(
        lambda s, x: s.degrees(x.output),
        Meaning("Yaw after", "°", "lower", 1, "How far the head of the output is turned to either side."),
        ("attributes",),
    ),
    "mean_iou": Score(
        label_agreement,
        Meaning(
            "Mean IoU",
            "",
            "higher",
            3,
            "Intersection over union of the label map given and that of the output, averaged over the classes.",
        ),
        ("segmenter",),
    ),
    "edges": Score(
        edge_agreement,
        Meaning("Edge F1", "", "higher", 3, "F1 score between the lines given and the borders in the output."),
        ("segmenter",),
    ),
    "consistency": Score(
        data_consistency,
        Meaning("Consistency", "dB", "higher", 1, "PSNR between output and input, both reduced by the row's factor."),
    ),
    "mse_hidden": Score(
        hidden_error,
        Meaning("MSE hidden", "", "lower", 4, "Mean squared difference from the truth where the mask hides."),
        needs_truth=True,
    ),
    "mse_shown": Score(
        lambda s, x: hidden_error(s, x, False),
        Meaning("MSE shown", "", "lower", 4, "Mean squared difference from the truth where the mask does not hide."),
        needs_truth=True,
    ),
    "diversity": Score(
        diversity,
        Meaning("Diversity", "", "higher", 3, "Mean perceptual distance between any two of a row's variants."),
        ("perceptual",),
    ),
}
SCORES_OF: dict[str, tuple[str, ...]] = {
    "inversion": ("mse", "psnr", "lpips", "identity"),
    "frontalisation": ("identity", "yaw_before", "yaw_after"),
    "sketch": ("edges", "lpips"),
    "segmentation": ("mean_iou", "lpips"),
    "super-resolution": ("psnr", "lpips", "identity", "consistency"),
    "inpainting": ("mse_hidden", "mse_shown", "lpips", "identity"),
    "toonify": ("identity",),
}
