"""Streams of batches: permutations, conditions of any kind, and going on where one stopped."""

from itertools import islice

import pytest
import torch

from labkit.data.images import to_uint8
from labkit.data.points import checkerboard, moons
from labkit.data.stream import batches, draws
from labkit.flow.mixtures import ring


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def stream(n, batch_size, generator):
    """A stream in which every image is its own label."""
    return batches(torch.arange(float(n))[:, None], torch.arange(n), batch_size, generator)


@pytest.mark.parametrize(("n", "batch_size"), [(12, 4), (12, 5), (7, 7), (5, 1)])
def test_an_epoch_is_a_permutation_less_what_does_not_fill_a_batch(n, batch_size):
    epochs = torch.stack([y for _, y in islice(stream(n, batch_size, seeded()), 4 * (n // batch_size))]).reshape(4, -1)
    for epoch in epochs:
        assert len(epoch.unique()) == n // batch_size * batch_size and epoch.min() >= 0 and epoch.max() < n
    assert len(epochs.unique(dim=0)) > 1  # shuffled anew


def test_images_and_labels_stay_together_and_bytes_come_out_as_floats():
    images = torch.arange(200, dtype=torch.uint8).reshape(200, 1, 1).expand(200, 2, 3)
    for z, y in islice(batches(images, torch.arange(200), 32, seeded()), 40):
        assert z.dtype == torch.float32 and torch.equal(to_uint8(z), y.byte()[:, None, None].expand(32, 2, 3))


@pytest.mark.parametrize("own", [True, False])
def test_a_stream_repeats_with_its_generator_and_without_one_with_the_global_seed(own):
    def run(seed):
        torch.manual_seed(0 if own else seed)
        return [y.tolist() for _, y in islice(stream(10, 3, seeded(seed) if own else None), 9)]

    assert run(5) == run(5) != run(6)


@pytest.mark.parametrize("sample", [None, ring().sample, moons, checkerboard])
@pytest.mark.parametrize("done", [0, 2, 3, 4, 7])
def test_a_resumed_stream_goes_on_as_if_nothing_had_happened(sample, done):
    def run(stream, count):  # the generator also draws other noise, as in a training
        return [(*next(stream), torch.rand(2, generator=stream.generator)) for _ in range(count)]

    first, second = (draws(sample, 6, g) if sample else stream(10, 3, g) for g in (seeded(1), seeded(99)))
    run(first, done)
    second.load_state_dict(first.state_dict())
    expected = run(first, 8)
    for was, now in zip(expected, run(second, 8), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(was, now, strict=True))


@pytest.mark.parametrize("n", [1, 3, 4])
def test_rows_of_every_part_of_a_condition_go_with_their_data(n):
    ids = torch.arange(10)
    tokens, mask = ids[:, None, None].expand(10, 4, 2).float(), ids[:, None] < torch.arange(4)
    for z, (y, (words, seen)) in islice(batches(ids.float(), (ids, (tokens, mask)), n, seeded()), 20):
        assert torch.equal(y, z.long()) and y.shape == (n,)
        assert torch.equal(words, tokens[y]) and torch.equal(seen, mask[y])


@pytest.mark.parametrize(
    "y", [torch.zeros(5), (torch.zeros(6), torch.zeros(5, 2)), (torch.zeros(6), (torch.zeros(7),))]
)
def test_a_part_of_another_length_is_refused(y):
    with pytest.raises(ValueError, match="y must have 6 rows, one per sample; got shape"):
        batches(torch.zeros(6, 1), y, 2)


def test_batches_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"y must have 5 rows, one per sample; got shape \(4,\)"):
        batches(torch.zeros(5, 1), torch.zeros(4), 2)
    for size in (0, 6):
        with pytest.raises(ValueError, match=rf"batch_size must lie in 1\.\.5, the number of samples; got {size}"):
            batches(torch.zeros(5, 1), torch.zeros(5), size)


@pytest.mark.parametrize(("n", "size", "words"), [(6, 2, "length 6; this one has 4"), (4, 3, "batch_size 3; .* has 2")])
def test_the_place_in_another_stream_is_refused(n, size, words):
    other = batches(torch.zeros(n, 2), torch.zeros(n), size)
    with pytest.raises(ValueError, match=f"the state is of a stream with {words}"):
        batches(torch.zeros(4, 2), torch.zeros(4), 2).load_state_dict(other.state_dict())
