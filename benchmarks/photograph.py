"""One photograph there and back: ``python -m benchmarks.photograph [PICTURE]``.

The public-domain portrait that scikit-image carries (Eileen Collins, NASA) is imported, its landmarks are found by
dlib, its face is cut out as FFHQ's recipe does and laid back: once as it is, once without its colours, so that one
sees where. No network draws anything. PICTURE gets the steps side by side.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.harness import print_result
from gan_core.align.paste import paste_face
from gan_core.importers import import_dataset
from gan_core.params import AlignParams
from gan_core.runs.run_stage import run_stage
from gan_core.stages.align import AlignStage
from gan_core.storage.images import decode_image
from gan_core.storage.shards import list_shards, read_rows
from gan_core.storage.urls import base_name

SIZE = 256
GAP = 8
MAX_PIXELS = 1 << 24


@dataclass(frozen=True)
class Steps:
    """The photograph, its face cut out, and both ways back: unchanged, and without its colours."""

    row: dict[str, Any]
    photograph: Image.Image
    face: Image.Image
    grey: Image.Image
    returned: Image.Image
    changed: Image.Image

    @property
    def quad(self) -> np.ndarray:
        """Corners of the face's square ``[4, 2]`` in the photograph."""
        return np.array(list(self.row["quad"]), dtype=np.float64)


def portrait() -> Image.Image:
    """The picture, 512 x 512; raises ``ImportError`` without scikit-image."""
    from skimage import data

    return Image.fromarray(data.astronaut())


def there_and_back(photograph: Image.Image, folder: Path, landmarks: str = "dlib-68") -> Steps:
    """Import the photograph, align it by the stage, and lay the face back."""
    (folder / "files").mkdir()
    photograph.save(folder / "files" / "portrait.png")
    import_dataset(str(folder / "files"), str(folder / "photographs"))
    shard = base_name(list_shards(str(folder / "photographs"))[0])
    params = AlignParams(landmarks=landmarks, size=SIZE, transform_size=4 * SIZE)
    run_stage(AlignStage(str(folder / "photographs"), params), shard, folder / "run")
    (row,) = next(iter(read_rows(str(folder / "run" / "align" / shard))))
    face = decode_image(row["image"]["bytes"], MAX_PIXELS)
    grey = face.convert("L").convert("RGB")
    quad = np.array(list(row["quad"]), dtype=np.float64)
    returned, changed = (paste_face(photograph, picture, quad) for picture in (face, grey))
    return Steps(row, photograph, face, grey, returned, changed)


def numbers(steps: Steps) -> dict[str, float]:
    """How near the way back comes, and whether a pixel changed outside of the square."""
    before, after, changed = (np.asarray(p).astype(float) for p in (steps.photograph, steps.returned, steps.changed))
    mask = Image.new("1", steps.photograph.size)
    ImageDraw.Draw(mask).polygon([tuple(corner) for corner in steps.quad.tolist()], fill=1)
    outside = ~np.asarray(mask)
    inside = np.square(after - before)[~outside].mean()
    return {
        "psnr_inside": float(10 * np.log10(255**2 / inside)),
        "changed_inside": float((changed != before).any(axis=2)[~outside].mean()),
        "changed_outside": int((changed != before).any(axis=2)[outside].sum()),
        "side_px": float(np.hypot(*(steps.quad[3] - steps.quad[0]))),
    }


def side_by_side(steps: Steps) -> Image.Image:
    """Photograph with square and landmarks, face, face without colours, photograph with that in it."""
    marked = steps.photograph.copy()
    draw = ImageDraw.Draw(marked)
    draw.polygon([tuple(corner) for corner in steps.quad.tolist()], outline=(255, 220, 0), width=3)
    for x, y in list(steps.row["landmarks"]):
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=(0, 220, 120))
    panels = [picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS) for picture in (marked, steps.face)]
    panels += [picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS) for picture in (steps.grey, steps.changed)]
    page = Image.new("RGB", (4 * SIZE + 3 * GAP, SIZE), (255, 255, 255))
    for i, panel in enumerate(panels):
        page.paste(panel, (i * (SIZE + GAP), 0))
    return page


def main() -> None:
    """Do it, print the numbers and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", nargs="?", type=Path)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        steps = there_and_back(portrait(), Path(folder))
    if options.picture:
        side_by_side(steps).save(options.picture, quality=88)
    print_result(**numbers(steps))


if __name__ == "__main__":
    main()
