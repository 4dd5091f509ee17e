"""Nights are compared row by row: what is seen of a change, how often nothing raises an alarm, and what is kept."""

from pathlib import Path

import numpy as np
import pytest

from gan_core.metrics.noise import project_patches
from gan_core.nightly import kept as stored
from gan_core.nightly.history import CHANCE, Entry, Measured, find_band
from gan_core.nightly.kept import Change, KeptRows, compare, keep_set, read_kept, write_kept

TESTS = 7
"""The numbers of one encoder on one dataset."""
KEYS = np.arange(150, dtype=np.uint64)
IDENTITY = "identity/toy/encoded"


def scored(values: np.ndarray, keys: np.ndarray = KEYS) -> KeptRows:
    """Rows with one score each."""
    return KeptRows(keys, {IDENTITY: values.astype(np.float32)})


def is_found(change: Change, value: float = 0.7) -> bool:
    """Whether a change of a number around 0.7 is raised."""
    now = Measured(value=value, noise=0.01, change=change.change, error=change.error, rows=change.rows)
    band = find_band(IDENTITY, now, [], TESTS)
    return band is not None and abs(change.change) > band.width


def test_nights_without_a_change_seldom_raise_an_alarm() -> None:
    """Row scores with heavy tails: of 4,000 nights CHANCE shared by seven numbers would raise less than one."""
    rng, found, beyond = np.random.default_rng(0), 0, 0
    for _ in range(4000):
        rows = rng.normal(size=150)
        before, now = (rows + rng.standard_t(4, size=150) * np.exp(rows / 2) for _ in range(2))
        change = compare(scored(before), scored(now))[IDENTITY]
        found += is_found(change)
        beyond += abs(change.change) > 1.976 * change.error  # the 5 % of Student's t with 149 degrees of freedom
    assert found <= 4000 * CHANCE
    assert 0.03 < beyond / 4000 < 0.06


def test_a_change_of_the_stated_size_is_seen_with_the_stated_power() -> None:
    rng, seen = np.random.default_rng(1), []
    for _ in range(300):
        rows, noise = rng.normal(0.7, 0.1, 150), rng.normal(0, 0.02, 150)
        quiet = compare(scored(rows), scored(rows + noise))[IDENTITY]
        now = Measured(value=0.7, noise=0.01, change=quiet.change, error=quiet.error, rows=quiet.rows)
        band = find_band(IDENTITY, now, [], TESTS)
        assert band is not None and band.paired
        assert band.seen < 0.011  # compared as whole sets it would be 0.06
        seen.append(is_found(compare(scored(rows), scored(rows + noise - band.seen))[IDENTITY]))
    assert np.mean(seen) > 0.86


def features(rng: np.random.Generator, aligned: np.ndarray) -> np.ndarray:
    """Features of reconstructions: the aligned ones, shrunk and with an error of their own."""
    return 0.9 * aligned + rng.normal(0.1, 0.5, aligned.shape)


def test_the_error_of_a_change_of_fid_is_its_spread_over_nights() -> None:
    rng, keys, ratios = np.random.default_rng(2), np.arange(120, dtype=np.uint64), []
    for _ in range(40):
        aligned = rng.normal(size=(120, 4))
        nights = [KeptRows(keys, {}, {"fid/x/encoded": keep_set(keys, aligned, features(rng, aligned))}) for _ in "12"]
        (change,) = compare(*nights).values()
        ratios.append(change.change / change.error)
        assert not is_found(change)
    assert 0.7 < np.std(ratios) < 1.25


def test_the_error_of_a_change_of_swd_is_its_spread_over_nights() -> None:
    rng, keys, ratios = np.random.RandomState(3), np.arange(24, dtype=np.uint64), []
    ramps = np.linspace(40, 200, 16)[None, :, None, None]

    def draw(real: np.ndarray) -> np.ndarray:
        return np.clip(real + rng.randn(*real.shape) * 12 + rng.randn(24, 1, 1, 1) * 8, 0, 255).astype(np.uint8)

    for _ in range(8):
        real = (ramps * rng.uniform(0.4, 1, (24, 1, 1, 3)) + rng.randn(24, 16, 16, 3)).clip(0, 255).astype(np.uint8)
        before, now = (keep_set(keys, *project_patches(real, draw(real))) for _ in range(2))
        (change,) = compare(*(KeptRows(keys, {}, {"swd/mean/encoded": night}) for night in (before, now))).values()
        ratios.append(change.change / change.error)
        assert not is_found(change)
    assert 0.5 < np.std(ratios) < 1.5


def test_a_small_change_of_every_row_is_seen_by_fid() -> None:
    rng, keys = np.random.default_rng(4), np.arange(200, dtype=np.uint64)
    aligned = rng.normal(size=(200, 4))
    good = features(rng, aligned)
    worse = good + 0.15 + rng.normal(0, 0.05, good.shape)
    before, now = (KeptRows(keys, {}, {"fid/x/encoded": keep_set(keys, aligned, part)}) for part in (good, worse))
    (change,) = compare(before, now).values()
    assert change.change > 0 and is_found(change)


def test_rows_are_matched_by_key_and_only_common_ones_count() -> None:
    values = np.linspace(0, 1, 150)
    before = scored(values)
    now = scored(np.append(values[10:] + 0.01, [9.0, 9.0]), np.append(KEYS[10:], np.uint64([777, 888])))
    change = compare(before, now)[IDENTITY]
    assert change.rows == 140 and change.change == pytest.approx(0.01) and change.error < 1e-6
    assert compare(before, scored(values[:7], KEYS[:7])) == {}
    assert compare(before, scored(values, KEYS + np.uint64(10_000))) == {}


def test_the_same_pictures_raise_nothing_and_say_what_would_be_seen() -> None:
    rows = scored(np.linspace(0, 1, 150))
    change = compare(rows, rows)[IDENTITY]
    assert (change.change, change.error) == (0, 0) and not is_found(change)
    now = Measured(value=0.7, noise=0.01, change=0.0, rows=150)
    assert find_band(IDENTITY, now, [], TESTS).width == pytest.approx(4.0 * 2**0.5 * 0.01, rel=0.05)
    past = Entry(
        date="2026-11-01", encoder="a", dataset="b", measured={IDENTITY: Measured(value=1, noise=1, error=0.002)}
    )
    assert find_band(IDENTITY, now, [past], TESTS).width == pytest.approx(4.0 * 0.002, rel=0.05)


def test_rounding_on_another_processor_raises_nothing() -> None:
    rows = np.full(150, 0.7)
    assert not is_found(compare(scored(rows), scored(rows + 3e-5))[IDENTITY])
    assert is_found(compare(scored(rows), scored(rows + 3e-4))[IDENTITY])


def test_what_is_kept_comes_back_and_damage_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, path = np.random.default_rng(0), str(tmp_path / "rows.npz")
    kept = KeptRows(KEYS, {IDENTITY: rng.normal(size=150).astype(np.float32)})
    kept.sets["fid/x/encoded"] = keep_set(KEYS[::-1], rng.normal(size=(150, 4)), np.full((150, 4), 1e9))
    write_kept(path, kept)
    back = read_kept(path)
    assert back is not None and np.array_equal(back.sets["fid/x/encoded"]["keys"], KEYS)
    assert np.isfinite(back.sets["fid/x/encoded"]["encoded"]).all()
    assert compare(kept, back)[IDENTITY] == Change(0, 0, 150)
    Path(path).write_bytes(Path(path).read_bytes()[:-40])
    assert read_kept(path) is None and read_kept(str(tmp_path / "none.npz")) is None
    with monkeypatch.context() as lost:
        lost.setattr(stored, "read_bytes", lambda _: (_ for _ in ()).throw(PermissionError("403")))
        with pytest.raises(PermissionError):
            read_kept(path)


def test_sets_that_another_network_has_looked_at_are_not_compared() -> None:
    rng = np.random.default_rng(3)
    aligned = rng.normal(size=(150, 8))
    encoded, turn = features(rng, aligned), np.linalg.qr(rng.normal(size=(8, 8)))[0]
    before = KeptRows(KEYS, sets={"fid/toy-attr/encoded": keep_set(KEYS, aligned, encoded)})
    noise = 1e-3 * rng.normal(size=aligned.shape)  # as another batch size rounds
    same = KeptRows(KEYS, sets={"fid/toy-attr/encoded": keep_set(KEYS, aligned + noise, encoded)})
    other = KeptRows(KEYS, sets={"fid/toy-attr/encoded": keep_set(KEYS, aligned @ turn, encoded @ turn)})
    assert abs(compare(before, same)["fid/toy-attr/encoded"].change) < 0.01 and compare(before, other) == {}
