import pytest
import torch

from gan_core.batching import in_chunks, one_thread


@pytest.mark.parametrize("rows", [1, 4, 5, 9])
def test_every_call_sees_the_same_shape_and_rows_keep_their_place(rows: int) -> None:
    shapes = []

    def double(chunk: torch.Tensor) -> torch.Tensor:
        shapes.append(chunk.shape)
        return 2 * chunk

    values = torch.arange(rows * 3.0).view(rows, 3)
    assert torch.equal(in_chunks(double, values, size=4), 2 * values)
    assert set(shapes) == {(4, 3)}


def test_the_number_of_threads_comes_back_even_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="stop"), one_thread():
        assert torch.get_num_threads() == 1
        raise RuntimeError("stop")
    assert torch.get_num_threads() == before
