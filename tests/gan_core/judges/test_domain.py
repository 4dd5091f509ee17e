"""Limits of what a generator draws: how they are fitted, stored and found, and what a damaged file does."""

from pathlib import Path

import numpy as np
import pytest

from gan_core.errors import DataError
from gan_core.judges.domain import Domain, Limit, find_limits, fit_limit, read_domains, write_domains


def domain(encoder: str, limit: float) -> Domain:
    """What is known of an encoder, with one limit."""
    fitted = Limit(score="mse", limit=limit, median=0.1, rows=999, false_positives=0.001)
    return Domain(encoder_sha256=encoder, generator_sha256="g", source="portraits", limits=(fitted,))


def test_as_many_pictures_of_the_same_kind_are_beyond_the_limit_as_is_stated() -> None:
    rng, beyond = np.random.default_rng(0), []
    for _ in range(200):
        limit = fit_limit("mse", "", rng.lognormal(size=1999))
        assert limit.false_positives == 0.001
        beyond.append((rng.lognormal(size=2000) > limit.limit).mean())
    assert np.mean(beyond) == pytest.approx(0.001, rel=0.25)


def test_few_pictures_give_a_larger_share_and_too_few_none() -> None:
    limit = fit_limit("mse", "", np.arange(199.0))
    assert (limit.limit, limit.false_positives, limit.rows, limit.median) == (198, 0.005, 199, 99)
    with pytest.raises(DataError, match="at least 99 finished rows, there are 98"):
        fit_limit("mse", "", np.arange(98.0))


def test_the_limits_of_several_encoders_are_kept_in_one_file(tmp_path: Path) -> None:
    path = str(tmp_path / "domain.json")
    assert read_domains(path) == ()
    write_domains(path, [domain("a", 1), domain("b", 2)])
    write_domains(path, [domain("a", 3)])
    assert [limit.limit for limit in find_limits(path, {"encoder_sha256": "a", "generator_sha256": "g"})] == [3]
    assert len(read_domains(path)) == 2
    assert find_limits(path, {"encoder_sha256": "a", "generator_sha256": "other"}) == ()
    assert find_limits(path, {}) == ()


@pytest.mark.parametrize("text", ["[", "{}", '[{"limits": []}]', "[" * 100_000, '[{"x": NaN}]'])
def test_a_damaged_file_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "domain.json").write_text(text)
    with pytest.raises(DataError, match=r"domain\.json holds no limits of encoders: make it again"):
        read_domains(str(tmp_path / "domain.json"))
    with pytest.raises(DataError):
        read_domains(str(tmp_path))
