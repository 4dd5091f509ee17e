"""Style mixing: replace or blend some latents with those of another row or of a random face."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from gan_core.batching import in_chunks
from gan_core.device import place
from gan_core.editing.planned import PlannedEdit
from gan_core.edits.base import EDIT_KINDS, EditSetting, LatentEdit, hash_latents
from gan_core.errors import ParamsError
from gan_core.params import EditSpec
from gan_core.rows import Row, row_seed
from gan_core.sections import Name, Unit


class MixSpec(EditSpec):
    """Some latents of a row are blended with those of another row, or of a random style."""

    kind: Literal["mix"] = "mix"
    name: Name = "mix"
    """How the columns are named: NAME@1, NAME@2, …"""
    latent_mask: Annotated[list[int], Field(min_length=1)]
    """Which latents."""
    alpha: Unit = 1.0
    """The share of the other style; 1 replaces them."""
    pictures: Annotated[int, Field(ge=1, le=1000)] = 1
    """Columns of pictures, each with another style."""
    references: tuple[str, ...] = ()
    """Keys of the rows whose latents are taken in turn; none: each row and picture has a random style."""
    seed: int = 0
    """Where the random styles begin."""


def mix_latents(w_plus: Tensor, injected: Tensor, latent_mask: Sequence[int], alpha: float = 1.0) -> Tensor:
    """Blend the latents of ``latent_mask``: ``alpha injected + (1 - alpha) w_plus`` (pSp, section 3.3).

    Both are ``[B, n_latent, w_dim]``; the other latents are returned unchanged.
    """
    mixed = w_plus.clone()
    index = list(latent_mask)
    mixed[:, index] = alpha * injected[:, index] + (1 - alpha) * w_plus[:, index]
    return mixed


@EDIT_KINDS.register("mix")
class MixEdit(LatentEdit[MixSpec]):
    """``{kind: mix, latent_mask: [6, 7, 8, 9], alpha: 0.8, pictures: 2}``: columns ``mix@1``, ``mix@2``."""

    spec = MixSpec

    def __init__(self, spec: MixSpec, setting: EditSetting) -> None:
        self.generator = setting.generator.model
        n_latent = self.generator.n_latent
        wrong = [i for i in spec.latent_mask if not 0 <= i < n_latent]
        if wrong:
            raise ParamsError(
                f"edits: latent_mask {wrong} of {spec.name!r} is not within [0, {n_latent}): give numbers of this "
                f"generator's {n_latent} latents, from 0"
            )
        self.references = setting.latents_of(spec.references) if spec.references else None

    @classmethod
    def plan(cls, spec: MixSpec) -> list[PlannedEdit[MixSpec]]:
        return [PlannedEdit(spec, f"{spec.name}@{i + 1}", strength=spec.alpha) for i in range(spec.pictures)]

    def describe(self, picture: PlannedEdit[MixSpec]) -> dict[str, object]:
        layers = [min(picture.spec.latent_mask), max(picture.spec.latent_mask) + 1]
        about = {**picture.spec.model_dump(exclude={"references"}), "picture": picture.column, "layers": layers}
        return about | ({} if self.references is None else {"references": hash_latents(self.references)})

    def edit(self, w_plus: Tensor, rows: Sequence[Row], picture: PlannedEdit[MixSpec]) -> Tensor:
        spec = picture.spec
        number = int(picture.column.rpartition("@")[2]) - 1
        return mix_latents(w_plus, self._styles(rows, spec, number), spec.latent_mask, spec.alpha)

    def _styles(self, rows: Sequence[Row], spec: MixSpec, number: int) -> Tensor:
        if self.references is not None:
            chosen = [(row_seed(row["key"]) + number) % len(self.references) for row in rows]
            return self.references[chosen]
        seeds = [row_seed(f"{spec.seed}/{number}/{row['key']}") for row in rows]
        z = torch.stack([torch.randn(self.generator.z_dim, generator=torch.Generator().manual_seed(s)) for s in seeds])
        return self.generator.broadcast(in_chunks(self.generator.mapping, place(z)))
