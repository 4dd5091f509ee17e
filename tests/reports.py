"""A report of a training that keeps what it is told, and can stop the training."""

from torch import Tensor

from gan_core.training.log import Report


class Reports(list[tuple[int, dict[str, float], Tensor]], Report):
    """All reports; the one at ``stop_at`` images is a kill."""

    def __init__(self, stop_at: int = 10**9) -> None:
        self.stop_at = stop_at
        self.steps: list[int] = []

    def __call__(self, seen: int, metrics: dict[str, float], pictures: Tensor) -> None:
        if seen >= self.stop_at:
            raise KeyboardInterrupt
        self.append((seen, metrics, pictures))

    def progress(self, seen: int, images: int) -> None:
        """Keep how far each step came."""
        self.steps.append(seen)
