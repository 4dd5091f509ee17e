import bz2
import gzip
import io
import json
import lzma
import os
import random
import tarfile
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from gan_core.errors import DataError
from gan_core.importers import import_dataset, tar
from gan_core.importers.sidecars import match_sidecars
from tests.gan_core.importers.conftest import rows_of

MakeTar = Callable[..., Path]


@pytest.mark.parametrize(
    ("suffix", "mode"), [(".tar", "w"), (".tar.gz", "w:gz"), (".tgz", "w:gz"), (".tar.xz", "w:xz")]
)
def test_members_of_one_name_are_one_row(
    tmp_path: Path, pngs: list[bytes], make_tar: MakeTar, suffix: str, mode: str
) -> None:
    points = [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10.5]]
    members = {
        "./0001.png": pngs[0],
        "./0001.json": json.dumps({"landmarks": points, "id": 7}).encode(),
        "./0001.txt": "a smile, naïve".encode(),
        "./0002.json": b'{"landmarks": "none"}',
        "./0002.png": pngs[1],
        "./0002.cls": b"3",
        "./0003.png": pngs[2],
        "./0003.seg.png": pngs[3],
    }
    make_tar(tmp_path / "in" / f"train-00{suffix}", members, mode)
    report = import_dataset(tmp_path / "in", tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert report.kind == "tar" and report.rows == {"ok": 4} and report.ignored == 0
    names = ["0001.png", "0002.png", "0003.png", "0003.seg.png"]
    assert [row["key"] for row in rows] == [f"train-00/{name}" for name in names]
    assert [row["image"] for row in rows] == [{"bytes": p, "path": n} for p, n in zip(pngs[:4], names, strict=True)]
    assert (
        rows[0]["landmarks"] == points and rows[0]["txt"] == "a smile, naïve" and json.loads(rows[0]["json"])["id"] == 7
    )
    assert rows[1]["landmarks"] is None and rows[1]["cls"] == "3" and rows[2]["json"] is None


def points(number: int) -> bytes:
    return json.dumps({"landmarks": [[number, number]]}).encode()


def landmarks_of(dataset: Path) -> dict[str, int | None]:
    """Return the first number of each row's landmarks by the member's name."""
    return {
        row["key"].partition("/")[2]: row["landmarks"] and int(row["landmarks"][0][0])
        for row in rows_of(dataset)
        if row["status"] == "ok"
    }


Names = list[str]
OWN = {"v.1.0.png": 0, "v.1.1.png": 1, "v.2.0.png": 2, "v.png": 3, "w/v.1.0.png": 4, "w/v.png": 5}


@pytest.mark.parametrize("order", ["sorted", "sidecars first", "pictures first", "mixed"])
@pytest.mark.parametrize("mac", [False, True])
def test_a_sidecar_belongs_to_its_picture_in_any_order(
    tmp_path: Path, pngs: list[bytes], make_tar: MakeTar, order: str, mac: bool
) -> None:
    members = {name: pngs[i] for name, i in OWN.items()}
    members |= {name.replace(".png", ".json"): points(i) for name, i in OWN.items()}
    if mac:
        forks = {
            f"{name.rpartition('/')[0]}/._{name.rpartition('/')[2]}".removeprefix("/"): b"\0\5\x16\7"
            for name in members
        }
        members |= forks | {"__MACOSX/._v.png": b"\0\5\x16\7"}
    by_order: dict[str, Callable[[Names], Names]] = {
        "sorted": sorted,
        "sidecars first": lambda names: sorted(names, key=lambda name: name.endswith("png")),
        "pictures first": lambda names: sorted(names, key=lambda name: not name.endswith("png")),
        "mixed": lambda names: random.Random(0).sample(names, len(names)),
    }
    ordered = by_order[order](list(members))
    make_tar(tmp_path / "in" / "t.tar", {f"./{name}": members[name] for name in ordered})
    report = import_dataset(tmp_path / "in", tmp_path / "out")
    assert landmarks_of(tmp_path / "out") == OWN
    assert report.rows == {"ok": 6} and report.ignored == (13 if mac else 0)
    assert [row["key"] for row in rows_of(tmp_path / "out")] == [f"t/{n}" for n in ordered if n in OWN]
    assert ("13 resource forks of macOS (t/" in str(report)) == mac


NFC, NFD = (unicodedata.normalize(form, "Zo\xeb") for form in ("NFC", "NFD"))
MATCHING: dict[str, tuple[Names, dict[str, str], Names, Names]] = {
    "with the picture's suffix": (["a.jpg", "a.jpg.json"], {"a.jpg": "a.jpg.json"}, [], []),
    "one name, two pictures": (["a.jpg", "a.png", "a.json"], {}, ["a.json"], []),
    "two pictures, each its own": (
        ["a.jpg", "a.png", "a.jpg.json", "a.png.json"],
        {"a.jpg": "a.jpg.json", "a.png": "a.png.json"},
        [],
        [],
    ),
    "own suffix before own name": (["a.jpg", "a.json", "a.jpg.json"], {"a.jpg": "a.jpg.json"}, ["a.json"], []),
    "WebDataset, longer picture": (["a.left.png", "a.json"], {"a.left.png": "a.json"}, [], []),
    "WebDataset, longer sidecar": (["a.png", "a.points.json"], {"a.png": "a.points.json"}, [], []),
    "WebDataset, two pictures": (["a.left.png", "a.right.png", "a.json"], {}, ["a.json"], []),
    "own name before WebDataset": (["a.png", "a.mask.png", "a.json"], {"a.png": "a.json"}, [], []),
    "two longer sidecars": (["a.png", "a.x.json", "a.y.json"], {}, ["a.x.json", "a.y.json"], []),
    "longer names with dots": (["v.1.png", "v.2.png", "v.1.points.json"], {"v.1.png": "v.1.points.json"}, [], []),
    "a neighbour's": (["visit.1.png", "visit.2.json"], {}, [], ["visit.2.json"]),
    "a number is no word": (["visit.png", "visit.2.json"], {}, [], ["visit.2.json"]),
    "the shorter one's": (["visit.2.png", "visit.json"], {}, [], ["visit.json"]),
    "another folder": (["x/a.png", "y/a.json"], {}, [], ["y/a.json"]),
    "another letter case": (["A.png", "a.json"], {}, [], ["a.json"]),
    "another Unicode form": ([f"{NFC}.png", f"{NFD}.json"], {f"{NFC}.png": f"{NFD}.json"}, [], []),
    "both Unicode forms": (
        [f"{NFC}.png", f"{NFD}.png", f"{NFC}.json"],
        {f"{NFC}.png": f"{NFC}.json"},
        [],
        [],
    ),
    "the same name twice": (["a.png", "a.png", "a.json"], {}, ["a.json"], []),
    "a sidecar twice": (["a.png", "a.json", "a.json"], {}, ["a.json", "a.json"], []),
}


@pytest.mark.parametrize("case", MATCHING)
@pytest.mark.parametrize("turned", [False, True])
def test_rules_of_matching(case: str, turned: bool) -> None:
    names, own, shared, alone = MATCHING[case]
    names = names[::-1] if turned else names
    matches = match_sidecars(names)
    assert {names[p]: names[s[".json"]] for p, s in matches.of.items()} == own
    assert sorted(names[place] for place in matches.shared) == sorted(shared)
    assert [names[place] for group in matches.alone for place in group] == alone


def test_sidecars_of_no_picture_or_two_are_said(tmp_path: Path, pngs: list[bytes], make_tar: MakeTar) -> None:
    members = {"a.png": pngs[0], "a.jpg": pngs[1], "a.json": points(1), "v.1.png": pngs[2], "v.2.json": points(2)}
    make_tar(tmp_path / "in" / "t.tar", {**members, "v.2.txt": b"x", "b.png": b"", "b.json": bytes(2 << 20)})
    report = import_dataset(tmp_path / "in", tmp_path / "out")
    assert report.rows == {"no_image": 1, "ok": 4}
    assert landmarks_of(tmp_path / "out") == {"a.png": None, "a.jpg": None, "v.1.png": None, "b.png": None}
    lone = next(row for row in rows_of(tmp_path / "out") if row["status"] == "no_image")
    assert (lone["key"], lone["txt"], lone["landmarks"]) == ("t/v.2.json", "x", [[2, 2]])
    assert "sidecars that fit more than one picture, or of which a picture has several (t/a.json)" in str(report)
    assert "1 sidecars of more than 1 MiB (t/b.json)" in str(report)


@pytest.mark.parametrize(
    "text",
    [
        b'{"landmarks": [[%s, 1]]}' % (b"9" * 400),
        b'{"landmarks": [[1e999, 1]]}',
        b'{"landmarks": [[NaN, 1]]}',
        b'{"landmarks": [1, 2]}',
        b'{"landmarks": "none"}',
        b"[" * 100_000,
        b"{",
        b"\0\5\x16\7",
    ],
)
def test_landmarks_that_are_no_points_are_said(
    tmp_path: Path, pngs: list[bytes], make_tar: MakeTar, text: bytes
) -> None:
    make_tar(tmp_path / "in" / "t.tar", {"a.png": pngs[0], "a.json": text})
    report = import_dataset(tmp_path / "in", tmp_path / "out")
    assert report.rows == {"ok": 1} and landmarks_of(tmp_path / "out") == {"a.png": None}
    assert "noted: 1 sidecars whose landmarks can't be read (t/a.json)" in str(report)


@pytest.mark.parametrize("text", [b"\xef\xbb\xbf" + points(7), points(7).decode().encode("utf-16")])
def test_json_of_windows_programs_is_read(tmp_path: Path, pngs: list[bytes], make_tar: MakeTar, text: bytes) -> None:
    make_tar(tmp_path / "in" / "t.tar", {"a.png": pngs[0], "a.json": text})
    report = import_dataset(tmp_path / "in", tmp_path / "out")
    assert landmarks_of(tmp_path / "out") == {"a.png": 7} and report.noted == ()


def test_two_archives_may_use_the_same_names(tmp_path: Path, pngs: list[bytes], make_tar: MakeTar) -> None:
    for name, png in zip(("b", "a"), pngs, strict=False):
        make_tar(tmp_path / "in" / f"{name}.tar", {"0.png": png})
    import_dataset(tmp_path / "in", tmp_path / "out")
    assert [(row["key"], row["status"]) for row in rows_of(tmp_path / "out")] == [("a/0.png", "ok"), ("b/0.png", "ok")]


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


def test_hostile_members_are_recorded_and_never_written(tmp_path: Path, pngs: list[bytes], make_tar: MakeTar) -> None:
    members: dict[str, bytes | tarfile.TarInfo] = {
        "../../escaped.png": pngs[0],
        "/absolute.png": pngs[1],
        "a/../../b.png": pngs[2],
        "link.png": special("link.png", tarfile.SYMTYPE, "/etc/passwd"),
        "hard.png": special("hard.png", tarfile.LNKTYPE, "good.png"),
        "device.png": special("device.png", tarfile.CHRTYPE),
        "pipe.png": special("pipe.png", tarfile.FIFOTYPE),
        "folder.png": special("folder.png", tarfile.DIRTYPE),
        "new\nline.png": pngs[3],
        os.fsdecode(b"bad\xff.png"): pngs[4],
        "long" * 300 + ".png": pngs[5],
        "good.png": pngs[6],
    }
    make_tar(tmp_path / "in" / "t.tar", members)
    before = {path for path in tmp_path.rglob("*")}
    report = import_dataset(tmp_path / "in", tmp_path / "out")
    assert report.rows == {"not_a_file": 4, "ok": 4, "unsafe_name": 3}
    rows = {row["key"]: row for row in rows_of(tmp_path / "out")}
    assert rows["t/../../escaped.png"]["status"] == rows["t//absolute.png"]["status"] == "unsafe_name"
    assert rows["t/link.png"]["image"] is None and rows["t/link.png"]["status"] == "not_a_file"
    assert {"t/new\\nline.png", "t/bad\\xff.png", "t/good.png"} <= rows.keys()
    assert all(key.isprintable() for key in rows)
    outside = {path for path in tmp_path.rglob("*")} - before
    assert all(path.is_relative_to(tmp_path / "out") for path in outside)


def test_nothing_of_a_group_vanishes(tmp_path: Path, pngs: list[bytes], make_tar: MakeTar) -> None:
    members = {"1.json": b"{}", "2.npy": b"..", "3.png": pngs[0], "3.npy": b"..", "4.png": b"", "notes": b"hello"}
    make_tar(tmp_path / "in" / "t.tar", members)
    report = import_dataset(tmp_path / "in", tmp_path / "out")
    assert report.rows == {"no_image": 1, "ok": 2} and report.ignored == 3
    assert [row["key"] for row in rows_of(tmp_path / "out")] == ["t/1.json", "t/3.png", "t/4.png"]


def test_a_duplicate_member_is_kept_under_another_key(tmp_path: Path, pngs: list[bytes]) -> None:
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in" / "t.tar", "w") as archive:
        for i, png in enumerate(pngs[:3]):
            (tmp_path / f"{i}.bin").write_bytes(png)
            archive.add(tmp_path / f"{i}.bin", "same.png")
    report = import_dataset(tmp_path / "in", tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert report.rows == {"duplicate_key": 2, "ok": 1}
    assert [row["key"] for row in rows] == ["t/same.png", "t/same.png#2", "t/same.png#3"]
    assert [row["image"]["bytes"] for row in rows] == pngs[:3]
    assert rows[1]["reason"] == "an earlier row has the key t/same.png"


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("keep", [0.3, 0.55, 0.9])
def test_an_archive_cut_short_says_so_in_its_last_row(
    tmp_path: Path, make_tar: MakeTar, compressed: bool, keep: float
) -> None:
    blobs = [random.Random(i).randbytes(6000) for i in range(10)]
    whole = make_tar(tmp_path / "whole.tar", {f"{i}.png": blob for i, blob in enumerate(blobs)}).read_bytes()
    data = gzip.compress(whole) if compressed else whole
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / ("t.tar.gz" if compressed else "t.tar")
    path.write_bytes(data[: int(len(data) * keep)])
    import_dataset(tmp_path / "in", tmp_path / "out")
    *rows, last = rows_of(tmp_path / "out")
    assert last["status"] == "truncated" and "the archive ends early" in last["reason"]
    assert [row["image"]["bytes"] for row in rows] == blobs[: len(rows)] and 0 < len(rows) < 10


@pytest.mark.parametrize("damage", ["header cut", "header overwritten", "no end mark"])
def test_an_archive_damaged_between_members_says_so(
    tmp_path: Path, pngs: list[bytes], make_tar: MakeTar, damage: str
) -> None:
    data = make_tar(tmp_path / "in" / "t.tar", {f"{i}.png": pngs[i] for i in range(9)}).read_bytes()
    third = data.index(b"2.png")
    damaged = {
        "header cut": data[: third + 100],
        "header overwritten": data[:third] + b"?" * 512 + data[third + 512 :],
        "no end mark": data[:third],
    }[damage]
    (tmp_path / "in" / "t.tar").write_bytes(damaged)
    report = import_dataset(tmp_path / "in", tmp_path / "out")
    assert report.rows == {"ok": 2, "truncated": 1}
    assert rows_of(tmp_path / "out")[-1]["key"] == "t/~end"


@pytest.mark.parametrize("compress", [bytes, gzip.compress, lzma.compress, bz2.compress])
@pytest.mark.parametrize("zeros", [0, 512, 40 * 512])
def test_archives_that_follow_one_another_are_read_as_one(
    tmp_path: Path, pngs: list[bytes], make_tar: MakeTar, compress: Callable[[bytes], bytes], zeros: int
) -> None:
    parts = [{"1.png": pngs[0], "2.json": points(2)}, {"2.png": pngs[1]}, {"3.png": pngs[2]}]
    data = [make_tar(tmp_path / f"{i}.tar", members).read_bytes() for i, members in enumerate(parts)]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "t.tar").write_bytes(b"".join(compress(part + bytes(zeros)) for part in data))
    assert import_dataset(tmp_path / "in", tmp_path / "out").rows == {"ok": 3}
    assert landmarks_of(tmp_path / "out") == {"1.png": None, "2.png": 2, "3.png": None}


@pytest.mark.parametrize("rest", [b"x", b"y" * 600, bytes(700) + b"z"])
def test_what_follows_an_archive_and_is_none_is_told(
    tmp_path: Path, pngs: list[bytes], make_tar: MakeTar, rest: bytes
) -> None:
    path = make_tar(tmp_path / "in" / "t.tar", {"1.png": pngs[0]})
    path.write_bytes(path.read_bytes() + rest)
    assert import_dataset(tmp_path / "in", tmp_path / "out").rows == {"ok": 1, "truncated": 1}
    assert "something else follows the archive's end mark" in rows_of(tmp_path / "out")[-1]["reason"]


def test_a_wrong_checksum_at_the_end_of_an_archive_is_told(
    tmp_path: Path, pngs: list[bytes], make_tar: MakeTar
) -> None:
    path = make_tar(tmp_path / "in" / "t.tar.gz", {"1.png": pngs[0]}, "w:gz")
    data = bytearray(path.read_bytes())
    data[-8] ^= 1
    path.write_bytes(data)
    assert import_dataset(tmp_path / "in", tmp_path / "out").rows == {"ok": 1, "truncated": 1}


def test_half_a_character_in_the_key_of_a_sidecar_is_escaped(
    tmp_path: Path, pngs: list[bytes], make_tar: MakeTar
) -> None:
    sidecar = b'{"exported_by": "edit-dataset", "key": "a\\ud800"}'
    make_tar(tmp_path / "in" / "t.tar", {"1.png": pngs[0], "1.json": sidecar})
    import_dataset(tmp_path / "in", tmp_path / "out")
    assert [row["key"] for row in rows_of(tmp_path / "out")] == ["a\\ud800"]


def test_a_huge_member_is_not_read(
    tmp_path: Path, pngs: list[bytes], make_tar: MakeTar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tar, "MAX_FILE_BYTES", 1000)
    make_tar(tmp_path / "in" / "t.tar.gz", {"bomb.png": bytes(5_000_000), "1.png": pngs[0]}, "w:gz")
    assert import_dataset(tmp_path / "in", tmp_path / "out").rows == {"ok": 1, "too_large": 1}


def test_an_incremental_archive_of_gnu_tar_has_the_names_of_its_files(tmp_path: Path, pngs: list[bytes]) -> None:
    with tarfile.open(tmp_path / "s.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        for name, kind, data in (("label", b"V", b""), ("pics/", b"D", b"Ya.png\0\0"), ("pics/a.png", b"0", pngs[0])):
            info = tarfile.TarInfo(name)
            info.type, info.size = kind, len(data)
            header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
            header[345:369] = b"15303423132\0" * 2  # the times of the last access and change
            header[148:156] = b" " * 8
            header[148:156] = b"%06o\0 " % sum(header)
            assert archive.fileobj is not None
            archive.fileobj.write(bytes(header) + data + bytes(-len(data) % tarfile.BLOCKSIZE))
    import_dataset(tmp_path / "s.tar", tmp_path / "out")
    assert [(row["key"], row["status"]) for row in rows_of(tmp_path / "out")] == [("s/pics/a.png", "ok")]


def test_an_absolute_name_in_gnus_format_stays_unsafe(tmp_path: Path, pngs: list[bytes]) -> None:
    with tarfile.open(tmp_path / "s.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        info = tarfile.TarInfo("/etc/a.png")
        info.size = len(pngs[0])
        archive.addfile(info, io.BytesIO(pngs[0]))
    import_dataset(tmp_path / "s.tar", tmp_path / "out")
    assert [row["status"] for row in rows_of(tmp_path / "out")] == ["unsafe_name"]


def test_zstandard_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(600))
    with pytest.raises(DataError, match=r"a\.tar is compressed by Zstandard, .*decompress it"):
        import_dataset(tmp_path / "a.tar", tmp_path / "out")


@pytest.mark.parametrize("data", [b"", b"hello", b"<html>" * 500])
def test_what_is_no_archive_is_refused_and_nothing_left(
    tmp_path: Path, pngs: list[bytes], make_tar: MakeTar, data: bytes
) -> None:
    make_tar(tmp_path / "in" / "a.tar", {"1.png": pngs[0]})
    (tmp_path / "in" / "b.tar").write_bytes(data)
    with pytest.raises(DataError, match=r"b\.tar is not a tar archive"):
        import_dataset(tmp_path / "in", tmp_path / "out", rows_per_shard=1)
    assert list((tmp_path / "out").iterdir()) == []


def test_archives_without_members_are_refused(tmp_path: Path, make_tar: MakeTar) -> None:
    make_tar(tmp_path / "in" / "a.tar", {})
    with pytest.raises(DataError, match="its tar files have no rows"):
        import_dataset(tmp_path / "in", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    "header", [{"GNU.sparse.size": "abc"}, {"GNU.sparse.map": "a,b"}, {"size": "-512"}, {"size": "9" * 30}]
)
def test_numbers_in_headers_that_are_none_end_the_archive_there(
    tmp_path: Path, pngs: list[bytes], header: dict[str, str]
) -> None:
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in" / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for number, more in enumerate(({}, header, {})):
            info = tarfile.TarInfo(f"{number}.png")
            info.size, info.pax_headers = len(pngs[0]), more
            archive.addfile(info, io.BytesIO(pngs[0]))
    import_dataset(tmp_path / "in", tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert rows[0]["status"] == "ok" and rows[-1]["status"] == "truncated"
