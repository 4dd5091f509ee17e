"""Hostile parameters: whatever is in them, it is read, or refused in one short line and in bounded time and memory."""

import resource
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.settings import parse_settings
from gan_core.errors import MAX_LETTERS, ParamsError, UserError, one_line
from gan_core.params import check_params, check_stored_params, load_params
from gan_core.sections import parse_yaml
from gan_core.toy.params import load_toy_params

SECONDS, MEBIBYTES = 10, 256
LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40))
FILES: dict[str, tuple[bytes, str]] = {
    "400 digits": (b"run: {workers: " + b"9" * 400 + b"}", "has a number of 400 digits"),
    "5,000 digits": (b"run: {workers: " + b"9" * 5000 + b"}", "has a number of 5000 digits"),
    "20 digits": (b"run: {workers: " + b"9" * 20 + b"}", "run.workers: Input should be less than or equal to"),
    "a large seed": (b"compose: {plan: [{operation: transfer, seed: " + b"9" * 20 + b"}]}", "less than or equal to"),
    "sexagesimal": (b"run: {workers: 1" + b":59" * 100_000 + b"}", "has a number of"),
    "infinity": (b"tune: {lr: .inf}", "tune.lr: Input should be a finite number"),
    "nan": (b"tune: {l2_weight: .nan}", "finite number"),
    "infinite strength": (b"edits: [{direction: smile, strengths: [.inf]}]", "finite number"),
    "latin-1": ("run:\n dask_address: é".encode("latin-1"), "is not in UTF-8"),
    "utf-16": ("run: {workers: 1}".encode("utf-16"), "is not in UTF-8"),
    "deep": (b"run: " + b"[" * 100_000, "nested more than 32 deep"),
    "deep maps": (b"".join(b" " * i + b"a:\n" for i in range(400)), "nested more than 32 deep"),
    "laughs": (LAUGHS.encode(), "more than 100000 values, with its aliases written out"),
    "merges": (MERGES.encode(), "more than 100000 values, with its aliases written out"),
    "itself": (b"run: &a [*a]", "values, with its aliases written out"),
    "10,000 keys": ("\n".join(f"key{i}: {i}" for i in range(10_000)).encode(), "unknown key key0"),
    "a long key": (b"k" * 300_000 + b": 1", "is not valid YAML"),
    "a long value": (b"run: {workers: " + b"a" * 300_000 + b"}", "run.workers: Input should be a valid integer"),
    "a large file": (b"#" * (1 << 21), "is longer than 1 MiB"),
    "a date": (b"run: {workers: 2001-99-99}", "is not valid YAML"),
    "code": (b"run: !!python/object/apply:os.system [touch pwned]", "is not valid YAML"),
    "a null byte": (b"run: \x00", "is not valid YAML"),
    "a list": (b"[1, 2]", "sections and their keys are expected, not a list"),
    "numbers as keys": (b"1: 2", "1: Keys should be strings"),
    "a list as kind": (b"edits: [{kind: [a]}]", "an edit kind is named by text, not by ['a']"),
    "a map as operation": (b"compose: {plan: [{operation: {}}]}", "operation"),
    "a list as encoder": (b"encode: {encoder: [psp]}", "encode.encoder: Input should be a valid string"),
    "half a character": (
        rb'edits: [{direction: "\uDC80", strengths: [1]}]',
        "edits.0.direction: Input should be a valid",
    ),
    "a long number of a card": (b"run: {device: 'cuda:" + b"9" * 5000 + b"'}", "run.device: a device is auto, cpu"),
    "a seed below zero": (
        b"compose: {plan: [{operation: panorama, seed: -5}]}",
        "plan.0.seed: Input should be greater",
    ),
    "lines": (b'run: {runner: "a\\n\\u2028b"}', "run.runner: Input should be 'threads', 'processes' or 'dask'"),
}


def peak_memory() -> int:
    """The most bytes that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def check_line(error: UserError) -> None:
    """One line, of letters that a terminal can show."""
    assert len(str(error)) <= MAX_LETTERS and str(error).isprintable()


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    content, said = FILES[name]
    (tmp_path / "p.yaml").write_bytes(content)
    begin, before = time.process_time(), peak_memory()
    with pytest.raises(ParamsError) as refused:
        load_params(tmp_path / "p.yaml")
    assert said in str(refused.value)
    check_line(refused.value)
    assert time.process_time() - begin < SECONDS
    assert peak_memory() - before < MEBIBYTES << 20
    assert not (tmp_path / "pwned").exists()


def test_places_that_are_no_files_are_refused(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none.yaml", "/dev/zero", tmp_path / ("n" * 300), tmp_path / "a\0b"):
        with pytest.raises(ParamsError) as refused:
            load_params(place)
        check_line(refused.value)
        with pytest.raises(ParamsError):
            load_toy_params(place)


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("latin-1", "utf-16")])
def test_settings_are_bounded_like_files(name: str) -> None:
    text = FILES[name][0].decode()
    try:
        values: dict[str, Any] = parse_settings([f"run={text}", f"{'a.' * 5000}b={text[:50]}"])
        check_params(values)
    except ParamsError as error:
        check_line(error)
    else:
        assert name == "a list"


@pytest.mark.parametrize(
    "setting", ["=", "tune.steps", "x" * 10_000, "tune.steps=[", "a..b=1", ".=1", f"{'a.' * 9999}b=1"]
)
def test_hostile_settings_are_one_line(setting: str) -> None:
    with pytest.raises(ParamsError) as refused:
        load_params(overrides=parse_settings([setting]))
    check_line(refused.value)


WORDS = [
    "run",
    "workers",
    "tune",
    "lr",
    "betas",
    "edits",
    "kind",
    "direction",
    "strengths",
    "compose",
    "plan",
    "operation",
    "translate",
    "variants",
    "models",
    "encoder",
    "measure",
    "metrics",
    "extensions",
    "layers",
    "paste",
]
KEYS = st.sampled_from(WORDS) | st.text(max_size=6)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(10**400)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Lists and dictionaries of values."""
    return st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)


VALUES = st.recursive(SCALARS, nested, max_leaves=8)


@settings(max_examples=80, derandomize=True, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_any_values_are_checked_or_refused(values: dict[str, Any]) -> None:
    for check in (check_params, lambda found: check_stored_params(found, "run.json")):
        try:
            check(values)
        except UserError as error:
            check_line(error)


@settings(max_examples=80, derandomize=True, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=4), st.binary(max_size=6), st.integers(0, 400))
def test_any_text_is_read_or_refused(values: dict[str, Any], inserted: bytes, place: int) -> None:
    text = yaml.safe_dump(values, allow_unicode=True)
    text = text[:place] + inserted.decode("latin-1") + text[place:]
    try:
        parse_yaml(text, "p.yaml")
    except ParamsError as error:
        check_line(error)


@given(st.text(max_size=2000), st.integers(10, 500))
def test_a_line_is_never_longer_than_it_may_be(text: str, most: int) -> None:
    line = one_line(text, most)
    assert len(line) <= most and line.isprintable()
    assert line == text or len(text) > most or not text.isprintable()
