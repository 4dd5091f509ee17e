import pytest
import torch

from gan_core.batching import chunk_size, in_chunks, in_chunks_each, one_thread


@pytest.mark.parametrize("rows", [1, 4, 5, 9])
def test_every_call_sees_the_same_shape_and_rows_keep_their_place(rows: int) -> None:
    shapes = []

    def double(chunk: torch.Tensor) -> torch.Tensor:
        shapes.append(chunk.shape)
        return 2 * chunk

    values = torch.arange(rows * 3.0).view(rows, 3)
    assert torch.equal(in_chunks(double, values, size=4), 2 * values)
    assert set(shapes) == {(4, 3)}


def test_large_pictures_go_in_smaller_chunks() -> None:
    assert [chunk_size(side) for side in (16, 64, 256, 512, 1024, 2048)] == [8, 8, 8, 2, 1, 1]
    shapes = []
    for rows in (torch.zeros(3, 3, 8, 512), torch.zeros(3, 2, 3, 8, 64), torch.zeros(3, 18, 512)):
        in_chunks(lambda chunk: (shapes.append(len(chunk)), chunk)[1], rows)
    assert shapes == [2, 2, 8, 8]


def test_the_number_of_threads_comes_back_even_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="stop"), one_thread():
        assert torch.get_num_threads() == 1
        raise RuntimeError("stop")
    assert torch.get_num_threads() == before


def test_several_results_are_put_together_each_for_itself() -> None:
    values = torch.arange(15.0).view(5, 3)
    doubled, sums = in_chunks_each(lambda chunk: (2 * chunk, chunk.sum(1)), values, size=2)
    assert torch.equal(doubled, 2 * values) and torch.equal(sums, values.sum(1))
    assert in_chunks_each(lambda chunk: (), values) == ()


def test_no_rows_give_no_results() -> None:
    assert in_chunks(lambda chunk: chunk.flatten(1)[:, :2], torch.zeros(0, 3, 8, 8)).shape == (0, 2)
