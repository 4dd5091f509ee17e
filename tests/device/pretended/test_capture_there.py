"""Work that is recorded and replayed on the pretended device gives what its operators give one by one."""

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_core.capture import SHAPES, WARM_UPS, Recorded, Repeated
from gan_core.device import compute_on, computing, fetch, place, send
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.inversion.projector import PTI, project
from gan_core.inversion.pti import Budget, tune_pivots
from gan_core.params import TuneParams
from tests.device.fakegpu import NAME, Counts, Recording, RecordingError, fakegpu
from tests.device.pretended.conftest import NEEDS_BFLOAT16, compare, there


@pytest.fixture(autouse=True)
def uncollected() -> Iterator[None]:
    """Leave memory to what frees it at once: a recording holds as much as all that it computes."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def one_by_one(compute: Callable[[], Any]) -> Any:
    """Compute on the device without recording."""

    def plainly() -> Any:
        with compute_on(replace(computing(), graphs=None)):
            return compute()

    found = there(plainly)
    assert Counts.replays == 0
    return found


def test_replayed_work_reads_what_was_put_in_its_place() -> None:
    def add() -> list[float]:
        given, total = place(torch.zeros(2)), place(torch.zeros(2))
        work = Repeated(lambda: total.add_(given * 2).sum())
        sums = []
        for number in range(WARM_UPS + 3):
            send([float(number), 0.0], given)
            sums.append(float(work()))
        return sums

    assert there(add) == one_by_one(add) == add() == [0.0, 2.0, 6.0, 12.0, 20.0]
    there(add)
    assert Counts.replays == 3


@pytest.mark.parametrize(
    "careless",
    [
        lambda x: x * float(x.sum()),
        lambda x: x + place(torch.ones(2)),
        lambda x: x[[1, 0]],
        lambda x: x[x > 0],
        lambda x: place(x.cpu()),
    ],
    ids=["a value", "a constant", "a list of places", "a mask", "there and back"],
)
def test_what_a_card_refuses_while_it_records_is_refused(careless: Callable[[Tensor], Tensor]) -> None:
    def repeat() -> None:
        x = place(torch.ones(2))
        work = Repeated(lambda: careless(x))
        for _ in range(WARM_UPS + 1):
            work()

    with pytest.raises(RecordingError):
        there(repeat)


def test_a_device_that_cannot_record_something_computes_it(caplog: pytest.LogCaptureFixture) -> None:
    def fail(body: Callable[[], object]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing")

    def double() -> float:
        x = place(torch.ones(1))
        graphs = computing().graphs
        assert graphs is not None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(graphs), "record", lambda self, body: fail(body))
            work = Repeated(lambda: x.mul_(2).clone())
            return [float(work()) for _ in range(WARM_UPS + 3)][-1]

    assert there(double) == 2.0 ** (WARM_UPS + 3)
    assert caplog.text.count("can't be recorded") == 1


def generator() -> StyleGAN2:
    """A tiny generator, the same each time."""
    torch.manual_seed(0)
    return place(StyleGAN2(8, style_dim=16, n_mlp=1, channels={4: 8, 8: 8}).eval().requires_grad_(False))


def loss(x: Tensor, y: Tensor) -> Tensor:
    """A distance ``[B]`` that stands for a perceptual one."""
    return (x - y).abs().mean((1, 2, 3))


def test_pictures_are_drawn_from_recordings_of_their_shapes() -> None:
    stream = torch.Generator().manual_seed(0)
    codes = [torch.randn(rows, 1, 16, generator=stream) for rows in (2, 1, 2, 2, 2, 1)]

    def draw() -> list[Tensor]:
        network = generator()
        drawing = Recorded(network.synthesis)
        pictures = []
        with torch.no_grad():
            for number, code in enumerate(codes):
                pictures.append(drawing(place(code.expand(-1, network.n_latent, -1))))
                network.conv1.conv.weight.add_(0.1 * number)  # as for a tuned row
        return pictures

    expected, found = draw(), there(draw)
    assert Counts.replays == 2 and not Recording.alive
    compare(expected, found, 0.0)


def test_only_some_shapes_are_kept() -> None:
    def sizes() -> int:
        doubled = Recorded(lambda x: x * 2)
        with torch.no_grad():
            for _ in range(WARM_UPS + 1):
                for size in range(1, SHAPES + 2):
                    assert doubled(place(torch.ones(size))).shape == (size,)
        return Counts.replays

    assert there(sizes) == SHAPES


TUNED: dict[str, dict[str, Any]] = {
    "some-weights": {"min_resolution": 8, "lr_rampdown": 0.5},
    "fast": {"precision": "fast"},
    "budgets-and-locality": {"budgets": [Budget(2, 0.01), Budget(5, 0.003)], "locality_weight": 0.1},
    "one-row": {"rows": 1},
    "a-threshold": {"stop_perceptual": True, "steps": 9},
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[NEEDS_BFLOAT16] if name == "fast" else []) for name, case in TUNED.items()],
    ids=TUNED,
)
def test_tuning_that_is_replayed_is_that_of_its_operators(case: dict[str, Any]) -> None:
    case = {"steps": WARM_UPS + 1, "lr": 0.01, "rows": 2, "min_resolution": 4} | case
    budgets, rows = case.pop("budgets", None), case.pop("rows")
    targets = torch.rand(rows, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    targets -= torch.arange(rows).view(-1, 1, 1, 1) / 2

    def tune() -> list[Any]:
        network = generator()
        pivots = place(torch.randn(rows, 1, 16, generator=torch.Generator().manual_seed(3)))
        pivots = pivots.expand(-1, network.n_latent, -1)
        found = tune_pivots(network, pivots, place(targets), loss, TuneParams(**case), list(range(rows)), budgets)
        return [[t.steps, t.stop_reason, t.losses, fetch(t.image), dict(sorted(t.delta.items()))] for t in found]

    if case.pop("stop_perceptual", None):  # the first row reaches it between two looks
        first = [step.perceptual for step in tune()[0][2]]
        case["stop_perceptual"] = first[5]
        assert first[5] < first[4]
    replayed = there(tune)
    assert Counts.replays and not Recording.alive, "a recording ends with its batch, and its memory with it"
    compare(one_by_one(tune), replayed, 0.0)
    expected = tune()
    assert [row[:2] for row in replayed] == [row[:2] for row in expected]
    compare(expected, replayed, 0.02 if case.get("precision") == "fast" else 1e-4)


def test_an_optimisation_of_pivots_that_is_replayed_is_that_of_its_operators() -> None:
    targets = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    recipe = replace(PTI, steps=WARM_UPS + 1, samples=8, lr=0.05)

    def find() -> Any:
        latents, noise = project(generator(), place(targets), loss, recipe, [0])
        return [fetch(latents), *map(fetch, noise)]

    replayed = there(find)
    assert Counts.replays == 1 and not Recording.alive
    compare(one_by_one(find), replayed, 1e-5)
    compare(find(), replayed, 1e-4)


def test_the_tests_device_is_not_the_cpu() -> None:
    with fakegpu(), compute_on(NAME) as compute:
        assert compute.graphs is not None and compute.device == f"{NAME}:0"
