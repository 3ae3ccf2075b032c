"""The machine: device, profile, precision, seeds and noise."""

import random

import numpy as np
import pytest
import torch

from labkit.base import runtime
from labkit.base.runtime import (
    PRECISIONS,
    PROFILES,
    autocast,
    bfloat16_gain,
    device,
    half_precision,
    machine,
    profile,
    randn_like,
    seed_everything,
    seeded_noise,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def pretend(monkeypatch, cuda=0, mps=False, **environment):
    """A machine with `cuda` CUDA devices, MPS or not, and no LABKIT_ variable except those given."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    for name in ("LABKIT_DEVICE", "LABKIT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(1, True, "cuda"), (1, False, "cuda"), (0, True, "mps"), (0, False, "cpu")]
)
def test_unset_the_device_is_cuda_before_mps_before_cpu(monkeypatch, cuda, mps, expected):
    pretend(monkeypatch, cuda, mps)
    assert device() == torch.device(expected)


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:1", "mps"])
def test_labkit_device_overrides_the_choice(monkeypatch, name):
    pretend(monkeypatch, cuda=2, mps=True, LABKIT_DEVICE=name)
    assert device() == torch.device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "CPU", " "])
def test_a_name_that_is_no_device_is_refused(monkeypatch, name):
    pretend(monkeypatch, LABKIT_DEVICE=name)
    with pytest.raises(ValueError, match=f"LABKIT_DEVICE must be cpu, cuda, cuda:N or mps; got '{name}'"):
        device()


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "meta"])
def test_a_device_that_the_machine_lacks_is_refused(monkeypatch, name):
    pretend(monkeypatch, LABKIT_DEVICE=name)
    with pytest.raises(ValueError, match=f"LABKIT_DEVICE is '{name}', but this machine has no such device"):
        device()


def test_a_cuda_device_beyond_the_last_one_is_refused(monkeypatch):
    pretend(monkeypatch, cuda=1, LABKIT_DEVICE="cuda:7")
    with pytest.raises(ValueError, match="LABKIT_DEVICE is 'cuda:7', but this machine has no such device"):
        device()


@pytest.mark.parametrize(("cuda", "mps", "expected"), [(1, False, "gpu"), (0, True, "cpu"), (0, False, "cpu")])
def test_unset_the_profile_is_gpu_where_cuda_is_and_cpu_elsewhere(monkeypatch, cuda, mps, expected):
    pretend(monkeypatch, cuda, mps)
    assert profile() == expected


@pytest.mark.parametrize("cuda", [0, 1])
@pytest.mark.parametrize("name", ["fast", "cpu", "gpu"])
def test_labkit_profile_is_taken_at_its_word(monkeypatch, name, cuda):
    pretend(monkeypatch, cuda, LABKIT_PROFILE=name)
    assert profile() == name


@pytest.mark.parametrize("name", ["turbo", "Fast", "cuda"])
def test_an_unknown_profile_is_refused_with_the_known_ones(monkeypatch, name):
    pretend(monkeypatch, LABKIT_PROFILE=name)
    with pytest.raises(ValueError, match=f"LABKIT_PROFILE must be one of {', '.join(PROFILES)}; got '{name}'"):
        profile()


def draw_everywhere(seed):
    generator = seed_everything(seed)
    return random.random(), np.random.rand(), torch.rand(()).item(), torch.rand((), generator=generator).item()


def test_a_seed_repeats_python_numpy_torch_and_its_generator():
    first, again, other = draw_everywhere(7), draw_everywhere(7), draw_everywhere(8)
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_the_returned_generator_is_separate_from_the_global_one():
    generator = seed_everything(7)
    torch.rand(100, generator=generator)
    after = torch.rand(5)
    seed_everything(7)
    assert torch.equal(torch.rand(5), after)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "7", None])
def test_what_is_no_seed_is_refused(seed):
    with pytest.raises(
        (ValueError, TypeError), match=rf"seed must be a whole number in \[0, 4294967295\]; got {seed!r}"
    ):
        seed_everything(seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_noise_repeats_with_its_generator_in_the_shape_and_precision_of_x(dtype):
    x = torch.zeros(2, 3, 5, dtype=dtype)
    first, again, other = (randn_like(x, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.shape == x.shape and first.dtype == dtype
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not x.any()


def test_noise_without_a_generator_follows_the_global_seed():
    torch.manual_seed(3)
    first = randn_like(torch.zeros(9))
    torch.manual_seed(3)
    assert torch.equal(randn_like(torch.zeros(9)), first)


def test_seeded_noise_repeats_with_its_seed_and_leaves_torchs_randomness_alone():
    before = torch.get_rng_state()
    first, again, other = seeded_noise(2, 3, 5, seed=1), seeded_noise(2, 3, 5, seed=1), seeded_noise(2, 3, 5)
    assert first.shape == (2, 3, 5) and first.dtype == torch.float32
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(other, seeded_noise(2, 3, 5, seed=0)) and torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, randn_like(torch.zeros(2, 3, 5), torch.Generator().manual_seed(1)))


def test_noise_is_standard_normal():
    n = 100_000
    noise = randn_like(torch.zeros(n, dtype=torch.float64), torch.Generator().manual_seed(0))
    # Four standard errors each: var(mean) = 1/n, var(mean of x^2) = 2/n, var(mean of x^4) = 96/n.
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (4, 3, 96)):
        assert abs((noise**power).mean() - moment) < 4 * (variance / n) ** 0.5


@pytest.fixture
def free_choice(monkeypatch):
    """No LABKIT_PRECISION, so that `half_precision` chooses."""
    monkeypatch.delenv("LABKIT_PRECISION")


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((8, 9), torch.bfloat16), ((10, 0), torch.bfloat16)],
)
@pytest.mark.parametrize("heavy", [False, True])
def test_cuda_works_in_bfloat16_from_ampere_on_and_in_float16_before(
    monkeypatch, free_choice, capability, dtype, heavy
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert half_precision(CUDA, heavy=heavy) == dtype


@pytest.mark.parametrize(("gain", "dtype"), [(0.2, None), (1.19, None), (1.21, torch.bfloat16), (4.0, torch.bfloat16)])
def test_the_cpu_works_in_bfloat16_where_that_is_clearly_faster(monkeypatch, free_choice, gain, dtype):
    monkeypatch.setattr(runtime, "bfloat16_gain", lambda: gain)
    assert half_precision(CPU, heavy=True) == dtype


def refuse():
    raise AssertionError("the probe ran")


def test_without_heavy_work_or_on_another_device_the_cpu_is_not_probed(monkeypatch, free_choice):
    monkeypatch.setattr(runtime, "bfloat16_gain", refuse)
    assert half_precision(CPU) is None
    assert half_precision(CPU, heavy=False) is None
    assert half_precision(torch.device("mps"), heavy=True) is None


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
@pytest.mark.parametrize("heavy", [False, True])
def test_labkit_precision_overrides_the_choice_without_a_probe(monkeypatch, name, heavy):
    monkeypatch.setattr(runtime, "bfloat16_gain", refuse)
    monkeypatch.setattr(torch.cuda, "get_device_capability", refuse)
    monkeypatch.setenv("LABKIT_PRECISION", name)
    expected = None if name == "float32" else torch.bfloat16
    assert {half_precision(on, heavy=heavy) for on in (CPU, CUDA, torch.device("mps"))} == {expected}


def test_float16_can_be_had_on_cuda_only(monkeypatch):
    monkeypatch.setenv("LABKIT_PRECISION", "float16")
    assert half_precision(CUDA) == torch.float16
    for on in ("cpu", "mps"):
        with pytest.raises(ValueError, match=f"LABKIT_PRECISION=float16 needs a CUDA device; this one is {on}"):
            half_precision(torch.device(on), heavy=True)


@pytest.mark.parametrize("name", ["half", "BFLOAT16", "float64", " "])
def test_an_unknown_precision_is_refused_with_the_known_ones(monkeypatch, name):
    monkeypatch.setenv("LABKIT_PRECISION", name)
    words = f"LABKIT_PRECISION must be one of float32, bfloat16, float16; got '{name}'"
    for on in (CPU, CUDA):
        with pytest.raises(ValueError, match=words):
            half_precision(on)


def test_every_precision_has_the_name_of_its_dtype():
    assert {name: dtype or torch.float32 for name, dtype in PRECISIONS.items()} == {
        name: getattr(torch, name) for name in PRECISIONS
    }


def test_the_probe_finds_a_positive_factor_and_runs_once(monkeypatch):
    bfloat16_gain.cache_clear()
    gain = bfloat16_gain()
    assert 0 < gain < float("inf")
    monkeypatch.setattr(torch.nn, "Sequential", refuse)
    assert bfloat16_gain() == gain


def test_the_probe_leaves_torchs_randomness_alone():
    """Else a seeded training would depend on whether another one ran before it in the process."""
    bfloat16_gain.cache_clear()
    before = torch.get_rng_state()
    bfloat16_gain()
    assert torch.equal(torch.get_rng_state(), before)


def test_half_precision_holds_inside_autocast_and_full_precision_stays_full():
    a = torch.rand(50, 50, dtype=torch.float32, generator=torch.Generator().manual_seed(0))
    with autocast(CPU, None):
        product = a @ a
    assert product.dtype == torch.float32
    # bfloat16 would be off by 4e-3; sums of 50 float32 products are off by less than 50 * 6e-8.
    torch.testing.assert_close(product.double(), a.double() @ a.double(), rtol=3e-6, atol=0)
    with autocast(CPU, torch.bfloat16):
        assert (a @ a).dtype == torch.bfloat16
    assert (a @ a).dtype == torch.float32


def test_a_machine_in_words_names_the_device_its_threads_and_torch():
    words = machine(torch.device("cpu"))
    assert words.startswith("cpu (")
    assert f"{torch.get_num_threads()} threads" in words and words.endswith(f"torch {torch.__version__}")


def test_the_probe_can_be_asked_for_while_gradients_are_off():
    with torch.no_grad():
        assert bfloat16_gain.__wrapped__() > 0
        assert not torch.is_grad_enabled()
