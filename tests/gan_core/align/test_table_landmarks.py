"""Landmarks that come beside a dataset: CelebA's list, FFHQ's JSON."""

import hashlib
import io
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from gan_core.align.quad import face_square
from gan_core.align.table_landmarks import TableLandmarks, read_table
from gan_core.errors import DataError
from gan_core.importers import import_dataset
from gan_core.rows import Rejected
from tests.golden.fill import golden

FIVE = [69, 109, 106, 113, 77, 142, 73, 152, 108, 154]
IMAGE = Image.new("RGB", (409, 687))
HEAD = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list_landmarks_celeba.txt", f"1\n{HEAD}\n000001.jpg  {'  '.join(map(str, FIVE))}\n"),
        ("list_landmarks_celeba.csv", f"image_id,{HEAD.replace(' ', ',')}\n000001.jpg,{','.join(map(str, FIVE))}\n"),
    ],
)
def test_celebas_five_points(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    source = TableLandmarks(str(tmp_path / name))
    for key in ("000001.jpg", "img_celeba/000001.jpg"):
        np.testing.assert_array_equal(source.landmarks(IMAGE, {"key": key}), np.reshape(FIVE, (5, 2)))
    missing = source.landmarks(IMAGE, {"key": "000002.jpg"})
    assert isinstance(missing, Rejected) and missing.status == "no_face" and name in missing.reason


POINTS = ",".join(map(str, FIVE))
OTHERS = ",".join(map(str, FIVE[::-1]))


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (f'"IMG 001.png",{POINTS}', "IMG 001.png"),
        (f'"one, two.png",{POINTS}', "one, two.png"),
        (f"000000001,{POINTS}", "000000001"),
        (f"\ufeffa.png,{POINTS}", "a.png"),
        (f"a.png;{POINTS.replace(',', ';')}", "a.png"),
        ("IMG 001.png " + POINTS.replace(",", "  "), "IMG 001.png"),
        ("IMG 001.png\t" + POINTS.replace(",", "\t"), "IMG 001.png"),
    ],
)
def test_names_in_a_list_are_those_of_its_writer(line: str, key: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"{line}\n\n", "utf-8")
    found = TableLandmarks(str(tmp_path / "list.csv")).landmarks(IMAGE, {"key": key})
    np.testing.assert_array_equal(found, np.reshape(FIVE, (5, 2)))


@pytest.mark.parametrize("line", [f"b.png,{POINTS},0.9", "b.png,1,2", f"b.png,{OTHERS[:-3]}x", f"b.png {POINTS} 0.9"])
def test_a_line_that_is_not_understood_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"name,{HEAD.replace(' ', ',')}\na.png,{POINTS}\n{line}\n")
    with pytest.raises(DataError, match=r"line 3 is not a name and ten numbers: 'b\.png"):
        read_table(str(tmp_path / "list.csv"))
    (tmp_path / "long.csv").write_text(f"{'a' * 200_000},{POINTS}")
    with pytest.raises(DataError, match="field larger than field limit"):
        read_table(str(tmp_path / "long.csv"))
    (tmp_path / "blanks.txt").write_text(f"b.png {POINTS.replace(',', ' ')} 0.9")
    with pytest.raises(DataError, match="line 1 is not a name and ten numbers"):
        read_table(str(tmp_path / "blanks.txt"))


def test_what_a_list_says_twice_or_of_several_rows_is_ambiguous(tmp_path: Path, pngs: list[bytes]) -> None:
    (tmp_path / "list.csv").write_text(
        f"a.png,{POINTS}\nb.png,{POINTS}\nb.png,{POINTS}\nc.png,{POINTS}\nc.png,{OTHERS}\n"
    )
    for name in ("train/a.png", "test/a.png", "train/b.png", "c.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(pngs[0])
    import_dataset(tmp_path / "in", tmp_path / "ds")
    source = TableLandmarks(str(tmp_path / "list.csv"))
    source.dataset = str(tmp_path / "ds")
    found = {
        key: source.landmarks(IMAGE, {"key": key}) for key in ("train/a.png", "test/a.png", "train/b.png", "c.png")
    }
    said = {key: each.reason for key, each in found.items() if isinstance(each, Rejected)}
    assert said.keys() == {"train/a.png", "test/a.png", "c.png"}
    assert "lists only 'a.png', a name that several rows have" in said["test/a.png"]
    assert "several lines for 'c.png'" in said["c.png"]


Pictures = dict[str, tuple[Image.Image, np.ndarray | None]]
FOLDERS = {"in_the_wild": "in-the-wild-images", "image": "images1024x1024", "thumbnail": "thumbnails128x128"}


def encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def pictures() -> Pictures:
    """A photograph, the face aligned from it (of the same size) and its thumbnail, which has no landmarks."""
    points = np.random.default_rng(0).uniform(60, 140, (68, 2))
    return {
        "in_the_wild": (Image.new("RGB", (256, 256), "red"), points),
        "image": (Image.new("RGB", (256, 256), "green"), points / 2),
        "thumbnail": (Image.new("RGB", (128, 128), "blue"), None),
    }


@pytest.fixture
def write_json(tmp_path: Path, pictures: Pictures) -> Callable[..., str]:
    """Write FFHQ's JSON for picture 5 with the given facts about each file, and for a picture 6 without landmarks."""

    def write(*facts: str) -> str:
        entry: dict[str, dict[str, object]] = {}
        for kind, (image, points) in pictures.items():
            known = {"pixel_size": list(image.size), "file_md5": hashlib.md5(encoded(image)).hexdigest()}
            entry[kind] = {"file_path": f"{FOLDERS[kind]}/00000/00005.png", **{fact: known[fact] for fact in facts}}
            if points is not None:
                entry[kind]["face_landmarks"] = points.tolist()
        path = tmp_path / "ffhq-dataset-v2.json"
        path.write_text(json.dumps({"5": entry}))
        return str(path)

    return write


def found(source: TableLandmarks, key: str, image: Image.Image) -> np.ndarray | tuple[str, str]:
    result = source.landmarks(image, {"key": key, "image": {"bytes": encoded(image), "path": ""}})
    return (result.status, result.reason) if isinstance(result, Rejected) else result


def test_ffhqs_sixty_eight_points_give_the_published_square(tmp_path: Path) -> None:
    expected, _ = golden("ffhq-alignment")
    points = expected["interior__landmarks"].tolist()
    entry = {"in_the_wild": {"file_path": "in-the-wild-images/00000/00005.png", "face_landmarks": points}}
    path = tmp_path / "ffhq-dataset-v2.json"
    path.write_text(json.dumps({"5": entry}))
    source = TableLandmarks(str(path))
    image = Image.new("RGB", (4000, 4000))
    for key in ("00005.png", "in-the-wild-images/00000/00005.png"):
        square = face_square(source.landmarks(image, {"key": key}))
        np.testing.assert_allclose(square.corners, expected["interior__quad"], atol=1e-9)
    assert source.identity() == TableLandmarks(str(path)).identity()


@pytest.mark.parametrize("facts", [(), ("pixel_size",), ("file_md5",), ("pixel_size", "file_md5")])
@pytest.mark.parametrize("prefix", ["", "./", "data/ffhq/", "x\\"])
def test_the_path_says_which_picture_it_is(
    write_json: Callable[..., str], pictures: Pictures, facts: tuple[str, ...], prefix: str
) -> None:
    source = TableLandmarks(write_json(*facts))
    for kind, (image, points) in pictures.items():
        result = found(source, f"{prefix}{FOLDERS[kind]}/00000/00005.png", image)
        if points is None:
            assert isinstance(result, tuple) and result[0] == "no_face"
            assert result[1].endswith("has no landmarks for thumbnails128x128/00000/00005.png")
        else:
            np.testing.assert_array_equal(result, points)


@pytest.mark.parametrize("kind", FOLDERS)
@pytest.mark.parametrize("below", ["", "/00000"])
def test_the_folder_of_the_import_is_a_part_of_the_path(
    write_json: Callable[..., str], pictures: Pictures, tmp_path: Path, kind: str, below: str
) -> None:
    source = TableLandmarks(write_json())
    folder = tmp_path / "ffhq" / FOLDERS[kind]
    (folder / "00000").mkdir(parents=True)
    (folder / "00000" / "00005.png").write_bytes(encoded(pictures[kind][0]))
    import_dataset(f"{folder}{below}", tmp_path / "dataset")
    source.dataset = str(tmp_path / "dataset")
    result = found(source, "00005.png" if below else "00000/00005.png", pictures[kind][0])
    points = pictures[kind][1]
    assert result[0] == "no_face" if points is None else np.array_equal(result, points)
    assert source.identity()["folder"] == f"{FOLDERS[kind]}{below}"


@pytest.mark.parametrize("key", ["00005.png", "00000/00005.png", "renamed/00000/00005.png"])
def test_without_a_path_the_file_itself_says_it_or_it_is_rejected(
    write_json: Callable[..., str], pictures: Pictures, key: str
) -> None:
    by_hash = TableLandmarks(write_json("file_md5"))
    for image, points in pictures.values():
        result = found(by_hash, key, image)
        assert result[0] == "no_face" if points is None else np.array_equal(result, points)
    by_size = TableLandmarks(write_json("pixel_size"))
    assert found(by_size, key, pictures["thumbnail"][0])[0] == "no_face"
    status, reason = found(by_size, key, pictures["image"][0])
    assert status == "ambiguous_landmarks"
    assert "whether it is in-the-wild-images/00000/00005.png or images1024x1024/00000/00005.png: import the" in reason
    by_name = TableLandmarks(write_json())
    assert [found(by_name, key, image)[0] for image, _ in pictures.values()] == ["ambiguous_landmarks"] * 3


def test_a_file_in_the_wrong_folder_is_known_by_its_hash(write_json: Callable[..., str], pictures: Pictures) -> None:
    image, points = pictures["image"]
    result = found(TableLandmarks(write_json("file_md5")), "in-the-wild-images/00000/00005.png", image)
    np.testing.assert_array_equal(result, points)


def test_another_size_of_the_picture_is_rejected(write_json: Callable[..., str], pictures: Pictures) -> None:
    smaller = pictures["image"][0].resize((24, 24))
    for facts, says in (
        (("pixel_size",), "is for 256x256 pixels, but this picture has 24x24"),
        ((), "has a face at ("),
    ):
        source = TableLandmarks(write_json(*facts))
        status, reason = found(source, "images1024x1024/00000/00005.png", smaller)
        assert status == "degenerate_landmarks" and says in reason and "24x24" in reason
    assert found(TableLandmarks(write_json()), "images1024x1024/00000/00006.png", smaller)[0] == "no_face"


def test_names_in_another_unicode_form_are_found(tmp_path: Path) -> None:
    nfc, nfd = (unicodedata.normalize(form, "Jos\xe9.jpg") for form in ("NFC", "NFD"))
    for listed, key in ((nfc, nfd), (nfd, nfc)):
        path = tmp_path / f"{listed}.txt"
        path.write_text(f"{listed} {' '.join(map(str, FIVE))}\n")
        assert np.array_equal(TableLandmarks(str(path)).landmarks(IMAGE, {"key": key}), np.reshape(FIVE, (5, 2)))


@pytest.mark.parametrize(
    ("name", "is_aligned", "says"),
    [
        ("list_landmarks_align_celeba.csv", True, "178x218 pixels, but this one has 409x687"),
        (
            "list_landmarks_celeba.txt",
            False,
            "this one is an aligned picture (178x218): list_landmarks_align_celeba is",
        ),
    ],
)
def test_celebas_lists_are_for_their_own_pictures(name: str, is_aligned: bool, says: str, tmp_path: Path) -> None:
    path, aligned = tmp_path / name, Image.new("RGB", (178, 218))
    path.write_text(f"000001.jpg,{','.join(map(str, FIVE))}\n")
    source, (own, other) = TableLandmarks(str(path)), (aligned, IMAGE) if is_aligned else (IMAGE, aligned)
    assert np.array_equal(source.landmarks(own, {"key": "000001.jpg"}), np.reshape(FIVE, (5, 2)))
    status, reason = found(source, "000001.jpg", other)
    assert status == "degenerate_landmarks" and says in reason


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [("x.json", "{", "neither CelebA"), ("x.json", '{"0": 3}', "neither CelebA"), ("x.txt", "a b\n", "lists no")],
)
def test_other_files_are_refused(name: str, text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=says):
        TableLandmarks(str(tmp_path / name)).landmarks(IMAGE, {"key": "a"})
    with pytest.raises(DataError, match="no table of landmarks"):
        TableLandmarks(str(tmp_path / "none.txt")).landmarks(IMAGE, {"key": "a"})


def test_a_list_is_read_again_when_it_has_changed_and_may_be_at_a_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "list.txt"
    for first in (1.0, 91.0):
        path.write_text(f"a.jpg {first} 1 2 2 3 3 4 4 5 5\n")
        for place in (str(path), f"file://{path}"):
            source = TableLandmarks(place)
            assert source.identity()["landmarks_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
            points = source.landmarks(IMAGE, {"key": "a.jpg"})
            assert isinstance(points, np.ndarray) and points[0].tolist() == [first, 1.0]
    fsspec.filesystem("memory").pipe_file("/lists/list.txt", path.read_bytes())
    monkeypatch.setattr(MemoryFileSystem, "cat_file", None)  # what was hashed is not fetched again
    points = TableLandmarks("memory://lists/list.txt").landmarks(IMAGE, {"key": "a.jpg"})
    assert isinstance(points, np.ndarray) and points[0].tolist() == [91.0, 1.0]


def test_the_kind_of_a_file_is_told_before_the_query_of_its_address() -> None:
    fsspec.filesystem("memory").pipe_file("/lists/ffhq.json?token=abcd", b'{"0": 3}')
    with pytest.raises(DataError, match=r"memory://lists/ffhq\.json\?token=\*\*\* is neither CelebA's list"):
        read_table("memory://lists/ffhq.json?token=abcd")
