"""How fast photographs are aligned: ``python -m benchmarks.align``, needs ``pip install '.[align]' scikit-image``.

The public-domain portrait that scikit-image carries, as a photograph of several sizes, is aligned by this project's
stage and in the way of the published script: for each image the 68-point predictor is loaded again, the detector looks
at the whole image doubled, and the last face found is taken. Seconds are of processor time on one core, decoding and
cropping included. That the square is FFHQ's own is checked against stored landmarks and quads
(``tests/golden/ffhq-alignment.npz``).
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.harness import print_result
from gan_core.align.crop import align_face
from gan_core.align.dlib_landmarks import Dlib68, import_dlib
from gan_core.align.quad import face_square
from gan_core.params import AlignParams
from gan_core.stages.align import AlignStage
from gan_core.storage.images import decode_image, encode_png

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "ffhq-alignment.npz"
SIZES = (512, 768, 1024)
CROP = 256


def photographs() -> list[bytes]:
    """The portrait as PNG files of several sizes."""
    from skimage import data

    portrait = Image.fromarray(data.astronaut())
    return [encode_png(np.asarray(portrait.resize((size, size), Image.Resampling.LANCZOS))) for size in SIZES]


def published_way(files: list[bytes], predictor: str) -> None:
    """Align one image after the other as the published per-image script does."""
    dlib = import_dlib()
    for file in files:
        shape_predictor = dlib.shape_predictor(predictor)
        detector = dlib.get_frontal_face_detector()
        image = decode_image(file, 10**8)
        pixels = np.asarray(image)
        for box in detector(pixels, 1):
            shape = shape_predictor(pixels, box)
        points = np.array([(point.x, point.y) for point in shape.parts()], dtype=np.float64)
        encode_png(np.asarray(align_face(image, face_square(points), CROP, CROP)))


def our_way(files: list[bytes]) -> None:
    """Align the rows of a shard by the stage."""
    stage = AlignStage("", AlignParams(landmarks="dlib-68", size=CROP, transform_size=CROP))
    rows = [{"key": str(i), "image": {"bytes": file}} for i, file in enumerate(files)]
    assert all(isinstance(row, dict) for row in stage.process(rows))


def rate(work: Callable[[], None], count: int, rounds: int) -> float:
    """Images a second of processor time, the best round."""
    times = []
    for _ in range(rounds):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return count / min(times)


def quad_error() -> float:
    """Largest difference in pixels between our corners and the published ones, over the stored cases."""
    with np.load(GOLDEN) as golden:
        cases = [name.removesuffix("__quad") for name in golden.files if name.endswith("__quad")]
        errors = [np.abs(face_square(golden[f"{c}__landmarks"]).corners - golden[f"{c}__quad"]).max() for c in cases]
    return float(max(errors))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    files, predictor = photographs(), Dlib68().file
    our_way(files[:1])  # loads detector and predictor, once per process
    ours = rate(lambda: our_way(files), len(files), options.rounds)
    published = rate(lambda: published_way(files, predictor), len(files), options.rounds)
    error = quad_error()
    print(f"{len(files)} photographs of {SIZES[0]} to {SIZES[-1]} px, one core each way")
    print(f"ours {ours:.2f} photographs/s, the published way {published:.2f}; quads differ by {error:.1e} px")
    print_result(align_ratio=ours / published, ours_per_s=ours, published_per_s=published, quad_error_px=error)


if __name__ == "__main__":
    main()
