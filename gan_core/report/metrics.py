"""What the names of scores mean, in words for people."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Meaning:
    """How a score is shown: ``digits`` after the point; ``better`` is ``"higher"``, ``"lower"`` or empty."""

    label: str
    better: str
    digits: int
    sentence: str
    signed: bool = False

    def show(self, value: float) -> str:
        """Write a value with this score's digits, and its sign where changes are meant."""
        rounded = round(value, self.digits) + 0.0  # + 0.0 turns -0.0 into 0.0
        return f"{rounded:{'+' if self.signed else ''}.{self.digits}f}".replace("-", "\u2212")


MEANINGS: dict[str, Meaning] = {
    "mse": Meaning("MSE", "lower", 4, "Mean squared difference to the aligned picture, pixels in [−1, 1]; 0 is equal."),
    "psnr": Meaning("PSNR", "higher", 1, "Likeness of pixels to the aligned picture in decibels."),
    "lpips": Meaning("LPIPS", "lower", 3, "Perceptual distance to the aligned picture; 0 looks the same."),
    "identity": Meaning("Identity", "higher", 3, "Cosine to the aligned picture's identity; 1 is the same person."),
    "side_effect": Meaning(
        "Side effect", "lower", 3, "Mean change of all other attributes, as a share of their ranges."
    ),
    "fid": Meaning("FID", "lower", 2, "Fréchet distance between the features of two sets of pictures; 0 is equal."),
    "swd": Meaning("SWD", "lower", 1, "Sliced Wasserstein distance between patches of two sets of pictures, × 1000."),
}
CHANGE = Meaning("", "", 2, "Change of the attribute as a share of its range.", signed=True)


@dataclass(frozen=True)
class Score:
    """A score's name taken apart: ``<metric>[_<extractor>]/<picture>``, or ``<attribute>/<edit>``."""

    name: str
    metric: str
    extractor: str
    picture: str
    meaning: Meaning


def parse_score(name: str) -> Score:
    """Take a column's name apart; a metric without a known meaning is taken for an attribute's change."""
    metric, _, picture = name.partition("/")
    for known, meaning in MEANINGS.items():
        if metric == known or metric.startswith(f"{known}_"):
            extractor = metric[len(known) + 1 :]
            label = f"{meaning.label} ({extractor})" if extractor else meaning.label
            return Score(name, known, extractor, picture, replace(meaning, label=label))
    return Score(name, metric, "", picture, replace(CHANGE, label=metric.replace("_", " ").capitalize()))


def explain_total(name: str) -> Meaning:
    """Return the meaning of a number about the whole dataset, such as ``fid/toy-attr/tuned``."""
    known = MEANINGS.get(name.partition("/")[0].partition("_")[0])
    return replace(known or Meaning("", "", 4, ""), label=name)
