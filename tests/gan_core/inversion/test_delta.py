import copy

import pytest
import torch
from torch import Tensor

from gan_core.errors import DataError
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.inversion.delta import apply_delta, pack_delta, pack_full, unpack_delta


def toy(width: int = 8) -> StyleGAN2:
    torch.manual_seed(0)
    return StyleGAN2(16, 8, 2, channels={4: width, 8: width, 16: width}).eval().requires_grad_(False)


def random_delta(generator: StyleGAN2, scale: float = 0.01) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {name: scale * torch.randn_like(p) for name, p in generator.named_parameters() if "style." not in name}


def test_weights_come_back_to_half_a_step_of_their_channel() -> None:
    delta = random_delta(toy())
    restored = unpack_delta(pack_delta(delta))
    assert restored.keys() == delta.keys()
    weight, again = delta["convs.0.conv.weight"], restored["convs.0.conv.weight"]
    step = weight.abs().amax((0, 2, 3, 4), keepdim=True) / 127
    assert ((again - weight).abs() <= 0.5001 * step).all()
    assert (again - weight).norm() / weight.norm() < 0.01
    assert restored["conv1.noise.weight"].item() == pytest.approx(delta["conv1.noise.weight"].item(), rel=1e-6)


def test_each_output_channel_has_its_own_scale() -> None:
    weight = torch.randn(1, 4, 8, 3, 3) * torch.tensor([1e-4, 1e-2, 1.0, 0.0]).view(1, 4, 1, 1, 1)
    restored = unpack_delta(pack_delta({"w": weight}))["w"]
    relative = (restored - weight).flatten(2).norm(dim=2)[0, :3] / weight.flatten(2).norm(dim=2)[0, :3]
    assert (relative < 0.01).all() and not restored[0, 3].any()


def test_a_quarter_of_the_bytes_of_float32() -> None:
    delta = {"w": torch.randn(1, 64, 64, 3, 3)}
    assert len(pack_delta(delta)) < 0.26 * 4 * delta["w"].numel()


def test_equal_deltas_give_equal_bytes() -> None:
    delta = random_delta(toy())
    assert pack_delta(delta) == pack_delta(dict(reversed(list(delta.items()))))


def test_the_generator_is_itself_again_afterwards() -> None:
    generator = toy()
    before = copy.deepcopy(generator.state_dict())
    w_plus = torch.randn(1, 6, 8)
    plain = generator.synthesis(w_plus)
    packed = pack_delta(random_delta(generator, 0.3))
    with apply_delta(generator, packed) as tuned:
        changed = tuned.synthesis(w_plus)
    assert not torch.allclose(changed, plain, atol=1e-2)
    assert all(torch.equal(value, before[key]) for key, value in generator.state_dict().items())


def test_the_generator_is_itself_again_after_an_error() -> None:
    generator = toy()
    before = copy.deepcopy(generator.state_dict())
    with pytest.raises(RuntimeError, match="stop"), apply_delta(generator, pack_delta(random_delta(generator))):
        raise RuntimeError("stop")
    assert all(torch.equal(value, before[key]) for key, value in generator.state_dict().items())


def test_no_difference_is_no_bytes() -> None:
    generator, w_plus = toy(), torch.randn(1, 6, 8)
    plain = generator.synthesis(w_plus)
    assert pack_delta({}) == b""
    with apply_delta(generator, b"") as same:
        assert torch.equal(same.synthesis(w_plus), plain)


@pytest.mark.parametrize("cut", [slice(0, -5), slice(3, None), slice(0, 4)])
def test_damaged_bytes_are_refused(cut: slice) -> None:
    with pytest.raises(DataError, match="can't be read"):
        unpack_delta(pack_delta({"w": torch.ones(3)})[cut])


def test_a_delta_of_another_generator_is_refused_before_anything_changes() -> None:
    generator, packed = toy(4), pack_delta(random_delta(toy(8)))
    before = copy.deepcopy(generator.state_dict())
    with pytest.raises(DataError, match="of another generator"), apply_delta(generator, packed):
        pass
    assert all(torch.equal(value, before[key]) for key, value in generator.state_dict().items())


def test_whole_differences_come_back_to_the_bit() -> None:
    delta = random_delta(toy())
    restored = unpack_delta(pack_full(delta))
    assert restored.keys() == delta.keys() and all(torch.equal(restored[name], delta[name]) for name in delta)
    assert pack_full({}) == b"" and len(pack_full(delta)) > 1.5 * len(pack_delta(delta))
