"""Landmark sources and judges on the photographs that packages ship: ``python -m benchmarks.photographs``.

It takes what is installed of scikit-image, Matplotlib, scikit-learn and insightface, and the files of ``--folder``. A
face is what MTCNN finds; it is cut out with its surroundings, and every source looks at that. Corners of squares are
compared with those from dlib's 68 points, as shares of the square's side. Judges score damages of known strength: the
order of their scores should be that of the strengths (Spearman's correlation). Milliseconds are of processor time on
one core. ``--sheet`` writes the aligned faces as one picture.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor

from benchmarks.harness import print_result
from gan_core.align.crop import align_face
from gan_core.align.landmarks import LANDMARK_SOURCES, LandmarkSource
from gan_core.align.mtcnn_landmarks import find_faces, load_cascade
from gan_core.align.quad import FaceSquare, face_square
from gan_core.judges.dlib_resnet import SAME_PERSON, load_dlib_resnet
from gan_core.judges.efficientnet_lite import EfficientNetFeatures, load_distance
from gan_core.judges.photographs import PhotoAttributes
from gan_core.metrics.frechet import frechet_distance, gather
from gan_core.params import ModelPaths
from gan_core.rows import Rejected
from gan_core.stages.damage import DAMAGES, damaged
from gan_core.storage.images import to_tensor

SHIPPED = {
    "skimage": ("data/astronaut.png",),
    "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),
    "insightface": ("data/images/t1.jpg", "data/images/Tom_Hanks_54745.png"),
}
"""Photographs of faces by package. insightface's pictures are film stills, so nothing made of them is kept."""
FACELESS = {
    "skimage": ("data/chelsea.png", "data/coffee.png", "data/rocket.jpg"),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}
SOURCES = ("dlib-68", "dlib-5", "mtcnn", "facemesh")
SIZE = 256
AROUND = 0.4
"""What the sources see beside a face, in sides of its box: enough to find it, and little of other people."""
SMALLEST_PX = 40
Measure = Callable[[Tensor, Tensor], np.ndarray]


def shipped(table: dict[str, tuple[str, ...]]) -> dict[str, Image.Image]:
    """Return the photographs of the packages that are installed, by file name."""
    found = {package: find_spec(package) for package in table}
    folders = {p: Path(spec.origin).parent for p, spec in found.items() if spec is not None and spec.origin}
    paths = [folder / file for package, folder in folders.items() for file in table[package]]
    return {path.name: Image.open(path).convert("RGB") for path in paths if path.is_file()}


@dataclass(frozen=True)
class Face:
    """A face in a photograph: the ``box`` (left, top, right, bottom) around it that the sources of landmarks see."""

    photograph: Image.Image
    box: tuple[int, int, int, int]

    def square(self, source: LandmarkSource) -> FaceSquare | None:
        """Return FFHQ's square in pixels of the photograph, None where the source finds no face."""
        points = source.landmarks(self.photograph.crop(self.box), {})
        return None if isinstance(points, Rejected) else face_square(points + np.array(self.box[:2]))


def find_all(photographs: dict[str, Image.Image]) -> dict[str, Face]:
    """Return each face of at least ``SMALLEST_PX`` pixels, by photograph and number."""
    cascade, faces = load_cascade(), {}
    for name, photograph in photographs.items():
        for number, (left, top, right, bottom) in enumerate(find_faces(cascade, [photograph])[0].boxes.tolist()):
            reach = AROUND * max(right - left, bottom - top)
            box = (round(left - reach), round(top - reach), round(right + reach), round(bottom + reach))
            if right - left >= SMALLEST_PX:
                faces[f"{name}#{number}"] = Face(photograph, box)
    return faces


def squares(source: LandmarkSource, faces: dict[str, Face]) -> tuple[dict[str, FaceSquare], float]:
    """Return the squares that a source gives, by face, and the milliseconds a face."""
    next(iter(faces.values())).square(source)  # loads its networks
    begin = time.process_time()
    found = {name: face.square(source) for name, face in faces.items()}
    cost = 1000 * (time.process_time() - begin) / len(faces)
    return {name: square for name, square in found.items() if square is not None}, cost


def corner_distance(one: FaceSquare, other: FaceSquare) -> float:
    """The largest distance of two corners, as a share of the second square's side."""
    return float(np.hypot(*(one.corners - other.corners).T).max() / other.side)


def false_faces(source: LandmarkSource, faceless: dict[str, Image.Image]) -> int:
    """How many photographs without a face a source finds one in."""
    return sum(not isinstance(source.landmarks(photograph, {}), Rejected) for photograph in faceless.values())


def judges() -> dict[str, Measure]:
    """Return how far pictures are from their originals by each judge: ``[B, 3, S, S]`` twice -> ``[B]`` or a number."""
    identity, distance, attributes = load_dlib_resnet().model, load_distance().model, PhotoAttributes()
    features = EfficientNetFeatures(ModelPaths())

    def frechet(before: Tensor, after: Tensor) -> np.ndarray:
        one, other = (gather(features.features(images).numpy()) for images in (before, after))
        return np.array([frechet_distance(one, other)])

    def drift(index: int) -> Measure:
        return lambda b, a: (attributes.look(a) - attributes.look(b))[:, index].abs().numpy() / 2

    measures: dict[str, Measure] = {
        "identity/dlib-resnet": lambda b, a: (identity(a) - identity(b)).norm(dim=1).numpy(),
        "perceptual/efficientnet-lite0": lambda b, a: distance(a, b).numpy(),
        "frechet/efficientnet-lite0": frechet,
    }
    return measures | {f"{name}/drift": drift(index) for index, name in enumerate(attributes.names)}


def order(measure: Measure, faces: list[Image.Image], kind: str) -> float:
    """Spearman's correlation between the strengths of a damage and the mean scores of the faces."""
    before = to_tensor(faces)
    scores = [measure(before, to_tensor([damaged(f, kind, s) for f in faces])).mean() for s in DAMAGES[kind]]
    return float(spearmanr(range(len(scores)), scores).statistic)


def people(views: list[dict[str, Image.Image]]) -> dict[str, float]:
    """Identity distances of views of the same face, and of different faces in the first view."""
    network = load_dlib_resnet().model
    seen = [{name: network(to_tensor([face]))[0] for name, face in view.items()} for view in views]
    first = seen[0]
    same = [(first[name] - other[name]).norm().item() for other in seen[1:] for name in first if name in other]
    others = [(first[a] - first[b]).norm().item() for a, b in combinations(first, 2)]
    right = [d < SAME_PERSON for d in same] + [d >= SAME_PERSON for d in others]
    return {
        "same_max": max(same),
        "same_mean": float(np.mean(same)),
        "other_min": min(others),
        "other_mean": float(np.mean(others)),
        "right_at_0.6": float(np.mean(right)),
    }


def milliseconds(measure: Measure, faces: list[Image.Image]) -> float:
    """Processor time a face of one look, in milliseconds."""
    images = to_tensor(faces)
    measure(images, images)
    begin = time.process_time()
    measure(images, images)
    return 1000 * (time.process_time() - begin) / (2 * len(faces))


def aligned(faces: dict[str, Face], found: dict[str, FaceSquare]) -> dict[str, Image.Image]:
    """Return the faces as FFHQ crops them."""
    return {name: align_face(faces[name].photograph, square, SIZE, 2 * SIZE) for name, square in found.items()}


def report_sources(faces: dict[str, Face], faceless: dict[str, Image.Image]) -> dict[str, dict[str, FaceSquare]]:
    """Print how the sources of landmarks compare, and return their squares."""
    sources = {name: LANDMARK_SOURCES.get(name)() for name in SOURCES}
    found, cost = {}, {}
    for name, source in sources.items():
        found[name], cost[name] = squares(source, faces)
    truth = found["dlib-68"]
    distances = {
        name: [corner_distance(square, truth[face]) for face, square in own.items() if face in truth]
        for name, own in found.items()
        if name != "dlib-68"
    }
    print_result(
        photographs_faces=len(faces),
        found={name: len(own) for name, own in found.items()},
        false_faces={name: false_faces(source, faceless) for name, source in sources.items()},
        quad_mean={name: float(np.mean(own)) for name, own in distances.items()},
        quad_max={name: max(own) for name, own in distances.items()},
        source_ms=cost,
    )
    return found


@torch.no_grad()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="more photographs of faces, each of another person")
    parser.add_argument("--sheet", type=Path, help="where the aligned faces are written as one picture")
    options = parser.parse_args()
    photographs = shipped(SHIPPED)
    for path in sorted(options.folder.iterdir()) if options.folder else []:
        photographs[path.name] = Image.open(path).convert("RGB")
    faces = find_all(photographs)
    found = report_sources(faces, shipped(FACELESS))
    pictures = aligned(faces, found["mtcnn"])
    if options.sheet:
        sheet = np.concatenate([np.asarray(face) for face in pictures.values()], axis=1)
        Image.fromarray(sheet).save(options.sheet)
    mirrored = {name: face.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for name, face in pictures.items()}
    views = [pictures, mirrored, *(aligned(faces, found[source]) for source in ("dlib-68", "facemesh"))]
    views += [{n: damaged(f, kind, DAMAGES[kind][1]) for n, f in pictures.items()} for kind in DAMAGES]
    print_result(people=people(views))
    shown, measures = list(pictures.values()), judges()
    for kind in DAMAGES:
        print_result(**{f"order_{kind}": {name: order(measure, shown, kind) for name, measure in measures.items()}})
    print_result(judge_ms={name: milliseconds(measure, shown) for name, measure in measures.items()})


if __name__ == "__main__":
    main()
