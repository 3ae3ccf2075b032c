"""What depends on the machine and not on the mathematics: device, precision, seeds and the notebook profile."""

import functools
import math
import os
import platform
import random
import time
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

from labkit.base.inputs import takes, tensor, whole

PROFILES = ("fast", "cpu", "gpu")
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def device() -> torch.device:
    """The device to work on: cuda, else mps, else cpu, or what the environment variable LABKIT_DEVICE names.

    ValueError if that is no device or one that is not present.
    """
    if wanted := os.environ.get("LABKIT_DEVICE", ""):
        return present(wanted, "LABKIT_DEVICE")
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def present(wanted: str | torch.device, name: str = "device") -> torch.device:
    """The device that is `wanted`; ValueError, about `name`, if that is none or this machine has no such device."""
    try:
        chosen = torch.device(wanted)
    except RuntimeError as error:
        raise ValueError(f"{name} must be cpu, cuda, cuda:N or mps; got {wanted!r}") from error
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (chosen.index or 0) >= count.get(chosen.type, 0):
        raise ValueError(f"{name} is {str(wanted)!r}, but this machine has no such device that torch can use")
    return chosen


def profile() -> str:
    """How much work a notebook does: `fast` (tests), `cpu` (a laptop) or `gpu`; ValueError for another name.

    Read from the environment variable LABKIT_PROFILE; unset, it is `gpu` where CUDA is there and `cpu` where not.
    """
    wanted = os.environ.get("LABKIT_PROFILE") or ("gpu" if device().type == "cuda" else "cpu")
    if wanted not in PROFILES:
        raise ValueError(f"LABKIT_PROFILE must be one of {', '.join(PROFILES)}; got {wanted!r}")
    return wanted


@takes(seed=whole(0, 2**32 - 1))
def seed_everything(seed: int) -> torch.Generator:
    """Seed Python, NumPy and torch (every device), and return a fresh CPU generator with the same seed."""
    seed = int(seed)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)


@takes()
def half_precision(on: torch.device, *, heavy: bool = False) -> torch.dtype | None:
    """The fast dtype for mixed precision on a device, or None where float32 is the right choice.

    CUDA: bfloat16 from compute capability 8.0, float16 below it (a T4 only emulates bfloat16, although
    `torch.cuda.is_bf16_supported()` answers True there). CPU: bfloat16 if the work is `heavy`, as that of networks on
    images is, and a probe finds it clearly faster. The environment variable LABKIT_PRECISION (float32, bfloat16 or
    float16) overrides the choice; ValueError for another name, and for float16 without CUDA.
    """
    if wanted := os.environ.get("LABKIT_PRECISION"):
        if wanted not in PRECISIONS:
            raise ValueError(f"LABKIT_PRECISION must be one of {', '.join(PRECISIONS)}; got {wanted!r}")
        if wanted == "float16" and on.type != "cuda":
            raise ValueError(f"LABKIT_PRECISION=float16 needs a CUDA device; this one is {on}")
        return PRECISIONS[wanted]
    if on.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(on) >= (8, 0) else torch.float16
    return torch.bfloat16 if on.type == "cpu" and heavy and bfloat16_gain() > 1.2 else None


@functools.cache
@torch.inference_mode(False)
@torch.enable_grad()
def bfloat16_gain() -> float:
    """How many times faster a small convolution and its gradient run on this CPU in bfloat16 than in float32.

    Measured once a process, in a fraction of a second: above 1 on CPUs with bfloat16 instructions, far below 1 on
    others, which emulate them.
    """
    cases = []
    for dtype, layout in ((torch.float32, torch.channels_last), (torch.bfloat16, torch.contiguous_format)):
        with torch.random.fork_rng(devices=[]):  # a probe must not move anybody's random numbers
            net = torch.nn.Sequential(*(torch.nn.Conv2d(32, 32, 3, padding=1) for _ in range(3)))
        cases.append((dtype, net.to(memory_format=layout), torch.zeros(64, 32, 16, 16).to(memory_format=layout)))
    fastest = {torch.float32: math.inf, torch.bfloat16: math.inf}
    for dtype, net, x in cases * 8:  # in turns, so that what else the machine does meets both
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            net(x).square().mean().backward()
        fastest[dtype] = min(fastest[dtype], time.perf_counter() - start)
    return fastest[torch.float32] / fastest[torch.bfloat16]


@takes()
def autocast(on: torch.device, dtype: torch.dtype | None) -> AbstractContextManager:
    """A context for forward passes: mixed precision in `dtype`, or nothing where that is None."""
    return nullcontext() if dtype is None else torch.autocast(on.type, dtype=dtype)


@takes()
def machine(on: torch.device) -> str:
    """A device in words, for run stamps and cards: "cpu (x86_64, 2 threads), torch 2.4.0"."""
    processor = f"{platform.machine()}, {torch.get_num_threads()} threads"
    name = torch.cuda.get_device_name(on) if on.type == "cuda" else processor
    return f"{on.type} ({name}), torch {torch.__version__}"


@takes(x=tensor())
def randn_like(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal noise shaped like `x`, drawn on the generator's device and then moved to that of `x`.

    With a CPU generator the same seed gives the same noise on every machine.
    """
    if generator is None:
        return torch.randn_like(x)
    return torch.randn(x.shape, dtype=x.dtype, device=generator.device, generator=generator).to(x.device)


@takes(shape=whole(0))
def seeded_noise(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal noise of a shape such as (B, 1, 32, 32), the same for a seed on every machine; on the CPU."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(int(seed)))
