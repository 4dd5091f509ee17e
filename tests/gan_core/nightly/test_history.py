"""Nights: what is raised and what isn't, the file that keeps them, and their page."""

import json
from pathlib import Path

import numpy as np
import pytest

from gan_core.errors import DataError
from gan_core.metrics.noise import bootstrap_error, mean_of
from gan_core.nightly.history import (
    REJECTED,
    ROWS,
    Entry,
    Finding,
    Measured,
    add_night,
    find_band,
    find_reference,
    read_history,
    write_history,
)
from gan_core.nightly.page import render_nights

FID, IDENTITY, SPEED = "fid/toy-attr/encoded", "identity/toy/encoded", "images_per_s"


def night(day: int, encoder: str = "psp", **values: tuple[float, float]) -> Entry:
    """One night of November with FID, identity and speed as (value, noise)."""
    names = {"fid": FID, "identity": IDENTITY, "speed": SPEED}
    measured = {names[n]: Measured(value=value, noise=noise) for n, (value, noise) in values.items()}
    return Entry(date=f"2026-11-{day:02d}", encoder=encoder, dataset="sample", measured=measured)


def run_nights(entries: list[Entry]) -> tuple[list[Entry], list[tuple[str, Finding]]]:
    """Judge one night after the other; returns the history and all findings with their dates."""
    history: list[Entry] = []
    found = []
    for entry in entries:
        history, findings = add_night(history, [entry])
        found += [(entry.date, finding) for finding in findings]
    return history, found


@pytest.mark.parametrize("seed", range(5))
def test_twenty_nights_of_fresh_rows_and_no_change_raise_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    nights = []
    for day in range(1, 21):
        rows, speed = rng.normal(0.7, 0.1, 200), rng.normal(40, 3)
        identity = (float(rows.mean()), bootstrap_error(mean_of(rows), len(rows)))
        nights.append(night(day, identity=identity, fid=(float(rng.normal(9, 0.3)), 0.3), speed=(speed, 0.5)))
    assert run_nights(nights)[1] == []


def test_the_same_rows_and_the_same_encoder_raise_nothing_however_small_the_noise() -> None:
    assert run_nights([night(day, fid=(9.0, 0.0)) for day in range(1, 21)])[1] == []


def test_a_worse_encoder_is_found_every_night_until_it_is_accepted() -> None:
    good = [night(day, fid=(9.0, 0.3), identity=(0.7, 0.01)) for day in range(1, 16)]
    bad = [night(day, fid=(14.0, 0.4), identity=(0.5, 0.01)) for day in range(16, 19)]
    history, found = run_nights([*good, *bad])
    assert [(day, f.metric) for day, f in found] == [(f"2026-11-{d}", m) for d in (16, 17, 18) for m in (FID, IDENTITY)]
    assert all(finding.worse for _, finding in found)
    assert str(found[0][1]) == "psp on sample: fid/toy-attr/encoded is 14, usual is 9 ± 1.7: worse"
    accepted = [*history[:-1], history[-1].model_copy(update={"accepted": True})]
    assert add_night(accepted, [night(19, fid=(14.0, 0.4), identity=(0.5, 0.01))])[1] == []


def test_a_better_number_is_said_to_be_better_and_noise_hides_a_small_change() -> None:
    usual = [night(day, fid=(9.0, 0.3)) for day in range(1, 8)]
    _, ((_, better),) = run_nights([*usual, night(8, fid=(5.0, 0.3))])
    assert not better.worse and "better" in str(better)
    assert run_nights([*usual, night(8, fid=(9.9, 0.3))])[1] == []
    _, ((_, faster),) = run_nights(
        [*(night(d, speed=(40 + d % 2, 0.1)) for d in range(1, 15)), night(15, speed=(90, 1))]
    )
    assert not faster.worse


def test_speed_is_judged_only_when_its_spread_is_known() -> None:
    slow = night(9, speed=(10.0, 0.5))
    few = [night(day, speed=(40.0 + day % 3, 0.5)) for day in range(3, 9)]
    assert run_nights([*few, slow])[1] == []
    enough = [night(day, speed=(40.0 + day % 3, 0.5)) for day in range(1, 9)]
    _, ((_, finding),) = run_nights([*enough, slow])
    assert finding.metric == SPEED and finding.worse


def test_series_are_judged_apart_and_a_repeated_night_replaces_itself() -> None:
    history, _ = run_nights([night(1, fid=(9.0, 0.3)), night(1, "e4e", fid=(20.0, 0.3)), night(2, fid=(9.1, 0.3))])
    history, found = add_night(history, [night(2, fid=(9.0, 0.3)), night(2, "e4e", fid=(20.1, 0.3))])
    assert found == [] and len(history) == 4
    assert [e.measured[FID].value for e in history if e.date == "2026-11-02"] == [9.0, 20.1]


def test_the_history_outlives_the_process_and_damage_is_told(tmp_path: Path) -> None:
    entries = [night(2, fid=(9.0, 0.3)), night(1, fid=(9.0, 0.3))]
    write_history(str(tmp_path), entries)
    assert read_history(str(tmp_path)) == entries[::-1]
    (tmp_path / "history.json").write_text("[{")
    with pytest.raises(DataError, match=r"history\.json is damaged: move it away"):
        read_history(str(tmp_path))


def test_an_accepted_night_that_is_repeated_stays_accepted_while_nothing_moves() -> None:
    def rejected(day: int, rows: float, accepted: bool = False) -> Entry:
        measured = {REJECTED: Measured(value=rows, noise=0.0)}
        return night(day).model_copy(update={"measured": measured, "accepted": accepted})

    history, _ = run_nights([rejected(1, 1), rejected(2, 2, accepted=True)])
    repeated, found = add_night(history, [rejected(2, 2)])
    assert not found and repeated[-1].accepted
    assert not add_night(repeated, [rejected(3, 2)])[1]
    assert [finding.value for finding in add_night(history, [rejected(2, 3)])[1]] == [3]


def compared(day: int, history: list[Entry], change: float | None, accepted: bool = False) -> Entry:
    """A night of an identity that has changed so much since the reference that the history names, if it names one."""
    reference = find_reference(history, ("psp", "sample"), f"2026-11-{day:02d}")
    now = {} if change is None or not reference else {"change": change, "error": 0.001, "rows": 100}
    measured = {IDENTITY: Measured(value=0.7 + (change or 0), noise=0.02, **now)}
    rows = {"rows": f"rows-{day}", "reference": reference, "accepted": accepted}
    return night(day).model_copy(update={"measured": measured, **rows})


def test_nights_are_compared_with_the_last_accepted_one_or_the_first() -> None:
    history: list[Entry] = []
    seen = []
    for day, change, accepted in (
        (1, 0, False),
        (2, 0.001, False),
        (3, -0.006, False),
        (4, -0.006, True),
        (5, 0, False),
    ):
        history, found = add_night(history, [compared(day, history, change, accepted)])
        seen.append((history[-1].reference, [finding.worse for finding in found]))
    assert seen == [("rows-1", []), ("rows-1", []), ("rows-1", [True]), ("rows-4", [True]), ("rows-4", [])]
    again, found = add_night(history, [compared(4, history, -0.006)])
    assert again[-1].reference == "rows-4" and len(again) == 5


def test_after_nights_of_an_earlier_version_the_first_one_without_a_finding_becomes_the_reference() -> None:
    old = [night(day, identity=(0.7, 0.01)) for day in (1, 2)]
    dumped = [entry.model_dump(exclude={"rows", "reference", "omitted"}) for entry in old]
    history = [Entry.model_validate(entry) for entry in dumped]
    history, found = add_night(history, [compared(3, history, -0.3)])
    assert [f.worse for f in found] == [True] and history[-1].reference == ""
    history, found = add_night(history, [compared(4, history, 0)])
    assert found == [] and history[-1].reference == "rows-4"


def test_the_page_says_what_would_be_seen_and_what_was_left_out() -> None:
    history: list[Entry] = []
    for day in (1, 2):
        history, _ = add_night(history, [compared(day, history, 0.001)])
    history[-1] = history[-1].model_copy(update={"omitted": {SPEED: "the machine was busy in 20 of 24 trials"}})
    page = render_nights(history, "2026-11-02")
    assert "A change of 0.0047 is seen with 90% power; compared row by row over 100 rows." in page
    assert "At most 0.1% of the nights without a change raise anything." in page
    assert "Images per second: left out: the machine was busy in 20 of 24 trials." in page


def test_the_page_shows_every_series_and_marks_what_moved() -> None:
    nights = [night(day, fid=(9.0 + day % 2 / 10, 0.3), speed=(40.0, 1.0)) for day in range(1, 8)]
    page = render_nights(run_nights(nights)[0], "2026-11-07")
    assert "No metric has moved" in page and 'class="found"' not in page and page.count('class="dot"') == 14
    page = render_nights(run_nights([*nights, night(8, fid=(20.0, 0.3), speed=(40.0, 1.0))])[0], "2026-11-08")
    assert "Metrics have moved" in page and page.count('class="found"') == 1
    assert "fid/toy-attr/encoded is 20, usual is 9.1" in page and 'class="band"' in page
    assert "psp on sample" in page and "<script" not in page
    assert "The first night" in render_nights(run_nights(nights[:1])[0], "2026-11-01")


def test_any_change_of_the_number_of_rejected_rows_is_raised() -> None:
    history: list[Entry] = []
    seen = []
    for day, rejected, accepted in (
        (1, 2, False),
        (2, 2, False),
        (3, 5, False),
        (4, 5, True),
        (5, 5, False),
        (6, 4, False),
    ):
        measured = {REJECTED: Measured(value=rejected, noise=0, rows=30)}
        entry = night(day).model_copy(update={"measured": measured, "accepted": accepted})
        history, found = add_night(history, [entry])
        seen.append([finding.worse for finding in found])
    assert seen == [[], [], [True], [True], [], [False]]


@pytest.mark.parametrize("day", ["2026-13-02", "20261107", "2026-W46-1"])
def test_a_history_with_a_date_that_is_none_is_damaged(tmp_path: Path, day: str) -> None:
    (tmp_path / "history.json").write_text(json.dumps([night(1).model_dump() | {"date": day}]))
    with pytest.raises(DataError, match=r"history\.json is damaged"):
        read_history(str(tmp_path))


def test_one_common_row_says_nothing_of_a_change() -> None:
    now = Measured(value=5.0, noise=0.1, change=1.0, error=0.0, rows=1)
    assert find_band("mse/encoded", now, [], 7) is None


def test_a_night_that_could_not_be_measured_is_not_said_to_be_quiet() -> None:
    history, _ = run_nights([night(1, fid=(9.0, 0.3))])
    page = render_nights(history, "2026-11-02", ["not measured: psp: no shards"])
    assert "Not everything was measured" in page and "No metric has moved" not in page
    assert "nightly re-evaluation, 2026-11-02" in page and "not measured: psp: no shards" in page


def test_rejected_rows_are_compared_with_the_accepted_night_for_ever() -> None:
    history: list[Entry] = []
    for day in range(1, 21):
        measured = {REJECTED: Measured(value=12 if day == 1 else 20, noise=0.0)}
        history, found = add_night(history, [night(day).model_copy(update={"measured": measured})])
        assert [finding.usual for finding in found] == ([12] if day > 1 else [])


def test_a_dataset_that_lost_rows_is_raised_and_one_that_grows_is_not() -> None:
    history: list[Entry] = []
    seen = []
    for day, rows, accepted in ((1, 128, False), (2, 140, False), (3, 128, False), (4, 20, True), (5, 20, False)):
        measured = {ROWS: Measured(value=rows, noise=0.0)}
        entry = night(day).model_copy(update={"measured": measured, "accepted": accepted})
        history, found = add_night(history, [entry])
        seen.append([(finding.usual, finding.worse) for finding in found])
    assert seen == [[], [], [(140, True)], [(140, True)], []]


def test_a_finding_hides_the_password_of_a_dataset() -> None:
    found = Finding(encoder="psp", dataset="ftp://me:word@host/ds", metric=IDENTITY, value=0.5, usual=0.7, band=0.1)
    assert str(found).startswith("psp on ftp://me:***@host/ds: ")
