"""How the landmark network learns: heads in frames, near and far, and frames without one."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, smooth_l1_loss

from gan_core.device import on_host, place
from gan_core.judges.networks import LandmarkNet, soft_argmax
from gan_core.storage.images import to_tensor
from gan_core.toy.training.learner import HELD_OUT_SEED, Batch, PortraitLearner, Scores
from gan_core.toy.training.measure_data import cached, invent_clutter, look, render_frames


class LandmarkLearner(PortraitLearner):
    """Points of heads in frames, near and far, and whether there is a head at all."""

    name = "landmarks"
    held_out_frames = 200
    network: LandmarkNet

    def __init__(self, *setting: Any) -> None:
        super().__init__(*setting)
        self.network = LandmarkNet(self.params.width)
        self.frames = cached(self.cache / "frames.npz", lambda: render_frames(self.params.rendered, 3_000_000))

    def draw(self, rng: torch.Generator) -> Batch:
        count = self.params.batch_size
        rows = torch.randint(len(self.frames["image"]), (count,), generator=rng).numpy()
        frames, points = to_tensor(list(self.frames["image"][rows])), torch.from_numpy(self.frames["points"][rows])
        windows = look(frames, points, *self._glance(points, rng))
        clutter = invent_clutter(count // 8, rng)
        images, points = torch.cat([windows.images, clutter]), torch.cat([windows.points, points[: len(clutter)]])
        present = torch.cat([windows.present, torch.zeros(len(clutter), dtype=torch.bool)])
        absent = torch.cat([windows.absent, torch.ones(len(clutter), dtype=torch.bool)])
        return {"images": augment_frames(images, rng), "points": points, "present": present, "absent": absent}

    @staticmethod
    def _glance(points: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Whole frames, close looks at the head, and looks elsewhere, a third each."""
        count = len(points)
        kind = torch.rand(count, generator=rng)
        close, far = (kind > 0.35)[:, None], (kind > 0.8)[:, None]
        spread = (points.amax(1) - points.amin(1)).amax(1)
        half = torch.where(close[:, 0], spread * (1.3 + 1.7 * torch.rand(count, generator=rng)), torch.ones(count))
        near = points.mean(1) + (torch.rand(count, 2, generator=rng) - 0.5) * (0.8 * half)[:, None]
        centre = torch.where(close, near, 0.5 + 0.06 * (torch.rand(count, 2, generator=rng) - 0.5))
        centre = torch.where(far, torch.rand(count, 2, generator=rng), centre)
        half = torch.where(far[:, 0], spread * (0.6 + 1.4 * torch.rand(count, generator=rng)), half)
        turn = (torch.rand(count, generator=rng) - 0.5) * (0.9 * close[:, 0].float())
        return centre, half, turn

    def loss(self, batch: Batch) -> Tensor:
        logit, heat = self.network.heat_maps(batch["images"])
        present, known = batch["present"], batch["present"] | batch["absent"]
        seen = binary_cross_entropy_with_logits(logit[known], present[known].float())
        heat, points = heat[present], batch["points"][present]
        near = -(heat.flatten(2).log_softmax(2) * bell(points, heat.shape[-1])).sum(2).mean()
        return 0.3 * seen + 0.3 * near + smooth_l1_loss(64 * soft_argmax(heat), 64 * points, beta=0.5)

    def score(self) -> Scores:
        frames = render_frames(self.held_out_frames, HELD_OUT_SEED)
        with on_host():
            images, points = to_tensor(list(frames["image"])), torch.from_numpy(frames["points"])
        count, rng = len(images), torch.Generator().manual_seed(HELD_OUT_SEED)
        whole = look(images, points, torch.full((count, 2), 0.5), torch.ones(count), torch.zeros(count))
        logit, found = (part.cpu() for part in self.network(place(whole.images)))
        spread = (points[:, 1] - points[:, 0]).norm(dim=1)
        error = (found - points).norm(dim=2).mean(1)
        empty = torch.cat([self._logits(invent_clutter(200, rng)), self._logits_elsewhere(images, points, rng)])
        return {
            "error_px_of_64": 64 * error.mean().item(),
            "error_px_of_64_95_percent": 64 * error.quantile(0.95).item(),
            "error_share_of_eye_distance": (error / spread).mean().item(),
            "found": (logit > 0).float().mean().item(),
            "false_alarms": (empty > 0).float().mean().item(),
        }

    def _logits_elsewhere(self, frames: Tensor, points: Tensor, rng: torch.Generator) -> Tensor:
        centre = torch.rand(len(frames), 2, generator=rng)
        windows = look(frames, points, centre, torch.full((len(frames),), 0.25), torch.zeros(len(frames)))
        return self._logits(windows.images[windows.absent])

    def _logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(place(images))[0]
        return logits.cpu()


def bell(points: Tensor, size: int) -> Tensor:
    """Where points ``[B, N, 2]`` (shares) lie on a grid: Gaussians one cell wide that sum to 1, ``[B, N, size²]``."""
    centres = (torch.arange(size, device=points.device) + 0.5) / size
    across, down = (torch.exp(-0.5 * ((centres - points[..., i, None]) * size).square()) for i in (0, 1))
    bells = (down[..., :, None] * across[..., None, :]).flatten(2)
    return bells / bells.sum(2, keepdim=True)


def augment_frames(images: Tensor, rng: torch.Generator) -> Tensor:
    """Vary brightness and contrast of images ``[B, 3, 64, 64]`` and add a little noise; nothing moves."""
    gain, lift, noise = torch.rand(3, len(images), 1, 1, 1, generator=rng).unbind(0)
    varied = images * (0.8 + 0.3 * gain) + 0.2 * (lift - 0.5)
    return (varied + 0.04 * noise * torch.randn(images.shape, generator=rng)).clamp(-1, 1)
