"""Time is reshaped in one place, and what comes in at every entrance is checked there."""

import math
import re

import pytest
import torch

from labkit.base.shapes import check_labels, check_same_shape, check_time, expand_t


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 4), (4, 2, 3), (4, 2, 3, 5), (1, 3), (0, 3)], ids=str)
def test_expanded_time_multiplies_every_sample_by_its_own_time(shape):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(shape, generator=generator, dtype=torch.float64)
    t = torch.rand(shape[0], generator=generator, dtype=torch.float64)
    product = expand_t(t, x) * x  # (4, 4) is where a plain t * x would go wrong in silence
    assert product.shape == x.shape
    for sample, time, whole in zip(product, t.tolist(), x, strict=True):
        assert torch.equal(sample, time * whole)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (5,), (4, 1), (1, 4)], ids=str)
def test_a_time_of_another_shape_is_refused_with_both_shapes(shape):
    words = r"t must have shape \(4,\).*x with shape \(4, 2, 3\); got shape "
    with pytest.raises(ValueError, match=words + re.escape(str(shape))):
        expand_t(torch.zeros(shape), torch.zeros(4, 2, 3))


def test_x_without_a_batch_is_refused():
    with pytest.raises(ValueError, match=r"t must have shape \(B,\).*x with shape \(\); got shape \(1,\)"):
        expand_t(torch.zeros(1), torch.tensor(1.0))


@pytest.mark.parametrize(
    ("t", "came"),
    [
        (0.5, "float"),
        ([0.5] * 4, "list"),
        (torch.zeros(4, dtype=torch.int64), "a tensor of torch.int64"),
        (torch.zeros(4, dtype=torch.bool), "a tensor of torch.bool"),
    ],
    ids=["number", "list", "int64", "bool"],
)
def test_a_time_that_is_no_float_tensor_is_refused_by_type(t, came):
    with pytest.raises(TypeError, match=rf"t must be a floating-point tensor of shape \(B,\).*got {came}"):
        expand_t(t, torch.zeros(4, 2))


@pytest.mark.parametrize(
    ("bad", "came"),
    [
        (-0.25, r"from -0\.25 to 0\.5"),
        (1.25, r"from 0\.5 to 1\.25"),
        (math.nan, "from nan to nan"),
        (math.inf, r"from 0\.5 to inf"),
        (-math.inf, r"from -inf to 0\.5"),
    ],
)
def test_one_time_outside_the_unit_interval_is_refused_with_its_value(bad, came):
    t = torch.tensor([0.5, bad, 0.5])
    with pytest.raises(ValueError, match=rf"t must lie in \[0, 1\].*got values {came}"):
        check_time(t, torch.zeros(3, 2))


def test_both_ends_and_the_rounding_of_summed_steps_are_times():
    t = torch.tensor(0.0)
    for _ in range(10):
        t = t + torch.tensor(0.1)
    assert t > 1  # ten float32 tenths overshoot
    assert check_time(torch.stack((torch.tensor(0.0), torch.tensor(1.0), t)), torch.zeros(3)) is None
    with pytest.raises(ValueError, match=r"to 1\.001"):
        check_time(t[None] + 1e-3, torch.zeros(1))


@pytest.mark.parametrize(
    ("labels", "came"),
    [([0, 3, -1], "from -1 to 3"), ([0, 3, 4], "from 0 to 4"), ([-7, -7, 9], "from -7 to 9")],
)
def test_a_label_out_of_range_is_refused_with_its_value(labels, came):
    with pytest.raises(ValueError, match=rf"y must hold labels in 0\.\.3; got values {came}"):
        check_labels(torch.tensor(labels), torch.zeros(3, 2), largest=3)


def test_the_largest_label_itself_is_a_label():
    y, x = torch.arange(4), torch.zeros(4, 2)
    assert check_labels(y, x, largest=3) is None
    with pytest.raises(ValueError, match=r"0\.\.2; got values from 0 to 3"):
        check_labels(y, x, largest=2)


@pytest.mark.parametrize(
    ("y", "came"),
    [
        ([0, 1, 2], "list"),
        (1, "int"),
        (torch.zeros(3), "a tensor of torch.float32"),
        (torch.zeros(3, dtype=torch.int32), "a tensor of torch.int32"),
        (torch.zeros(3, dtype=torch.bool), "a tensor of torch.bool"),
    ],
    ids=["list", "number", "float32", "int32", "bool"],
)
def test_labels_that_are_no_int64_tensor_are_refused_by_type(y, came):
    with pytest.raises(TypeError, match=rf"y must be an int64 tensor of shape \(B,\).*got {came}"):
        check_labels(y, torch.zeros(3, 2), largest=9)


@pytest.mark.parametrize("shape", [(), (2,), (3, 1)], ids=str)
def test_labels_of_another_shape_are_refused_with_both_shapes(shape):
    words = r"y must have shape \(3,\).*x with shape \(3, 2\); got shape "
    with pytest.raises(ValueError, match=words + re.escape(str(shape))):
        check_labels(torch.zeros(shape, dtype=torch.int64), torch.zeros(3, 2), largest=9)


@pytest.mark.parametrize("shape", [(3,), (3, 1), (2, 3), (1, 3, 2)], ids=str)
def test_a_value_that_would_broadcast_or_transpose_is_not_shaped_like_x(shape):
    with pytest.raises(ValueError, match=r"eps must be shaped like x, \(3, 2\); got " + re.escape(str(shape))):
        check_same_shape("eps", torch.zeros(shape), torch.zeros(3, 2))
