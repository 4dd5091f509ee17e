"""The checkpoint layout of published SNGAN, ProgGAN and BigGAN generators."""

from pathlib import Path

import torch

from gan_core.checkpoints.stored import StoredTensor, load_tensors, outlines, state_of
from gan_core.published.generators import FAMILIES, build_published
from gan_core.published.layouts import LAYOUTS, Layout, Part, generator_part

NESTED = ("generator_smooth", "generator", "g_ema")
LICENCES = {
    "sngan": "none stated (GANLatentDiscovery)",
    "proggan": "CC BY-NC 4.0 for the CelebA-HQ weights (NVIDIA); code of the layouts MIT or none stated",
    "biggan": "MIT",
    "biggan-deep": "MIT; weights of DeepMind, Apache-2.0",
}


@LAYOUTS.register("gan-families")
class FamiliesLayout(Layout):
    """State dicts of SNGAN, ProgGAN (three layouts), BigGAN-128 and BigGAN-deep, bare or under one of ``NESTED``."""

    name = "gan-families"

    def terms(self, value: object) -> str:
        return LICENCES[self._family(value)]

    def recognises(self, value: object) -> bool:
        return _state(value) is not None

    def facts(self, value: object, where: str | Path) -> dict[str, object]:
        return {"family": self._family(value)}

    def check(self, value: object, where: str | Path) -> None:
        with torch.device("meta"):
            build_published(outlines(_state(value) or {}), str(where))

    def convert(self, value: object, where: str | Path) -> list[Part]:
        state = load_tensors(_state(value) or {})
        return [generator_part(build_published(state, str(where)), "generator")]

    def _family(self, value: object) -> str:
        state = _state(value) or {}
        build = next(build for key, build in FAMILIES.items() if key in state)
        known = {"_sngan": "sngan", "_biggan": "biggan", "_biggan_deep": "biggan-deep"}
        return known.get(build.__name__, "proggan")


def _state(value: object) -> dict[str, StoredTensor] | None:
    candidates = [value, *(value[key] for key in NESTED if isinstance(value, dict) and key in value)]
    for candidate in candidates:
        state = state_of(candidate)
        if state is not None and any(key in state for key in FAMILIES):
            return state
    return None
