"""The training loop: `fit` takes steps until it has taken `steps`, and can be stopped and resumed.

One step: draw a batch, take the loss, clip the gradient, step AdamW, move the averaged copy. No value is read back from
an accelerator inside a step: losses stay there and are read every CHECK_EVERY steps, for the bar and to catch NaN.
"""

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from labkit.base.files import atomic_write
from labkit.base.runtime import PRECISIONS, autocast, half_precision

CHECK_EVERY = 50
HEAVY = 500_000  # weights from which on a network is worth a faster precision even without convolutions

LossFn = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass
class History:
    """What a training left: the loss of every step, seconds, precision of the forward passes, and the averaged model.

    `ema` is the model to sample from, in eval mode; the model handed to `fit` keeps its raw last weights.
    """

    ema: nn.Module
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    precision: str = "float32"

    @property
    def steps(self) -> int:
        """Optimiser steps taken."""
        return len(self.losses)


class PowerAverage:
    """An average of a model's weights: mean <- beta_n mean + (1 - beta_n) theta_n, beta_n = (1 - 1/n)^(gamma+1).

    The average forgets the beginning at a rate that grows with the training, whatever its length: for gamma=9 its
    spread is 8% of the training so far. Analyzing and Improving the Training Dynamics of Diffusion Models
    (2024), section 3.1.

    `module` is the averaged model, a copy of `model`; `update(model)` takes in the weights after step n = 1, 2, ...
    Buffers are copied as they are. The weight of the mean is a number of Python's, so no device has to be waited for.
    """

    def __init__(self, model: nn.Module, gamma: float = 9.0) -> None:
        self.module, self.gamma, self.n = deepcopy(model), gamma, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the present weights of `model`; the first time they are the mean."""
        self.n += 1
        mean, new = list(self.module.parameters()), list(model.parameters())
        if self.n == 1:
            torch._foreach_copy_(mean, new)
        else:  # 1 - (1 - 1/n)^(gamma + 1), without losing digits where n is large
            torch._foreach_lerp_(mean, new, -math.expm1((self.gamma + 1) * math.log1p(-1 / self.n)))
        if buffers := list(self.module.buffers()):
            torch._foreach_copy_(buffers, list(model.buffers()))

    def state_dict(self) -> dict:
        """The averaged weights, and of how many they are the average."""
        return {"module": self.module.state_dict(), "n": self.n}

    def load_state_dict(self, state: dict) -> None:
        """Go on from what `state_dict` gave."""
        self.module.load_state_dict(state["module"])
        self.n = state["n"]


def fit(
    model: nn.Module,
    loss_fn: LossFn,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    steps: int,
    lr: float,
    warmup: int | None = None,
    weight_decay: float = 0.01,
    clip: float = 1.0,
    ema_gamma: float = 9.0,
    checkpoint: Path | str | None = None,
    checkpoint_seconds: float = 60.0,
    resume: Path | str | None = None,
    progress: bool = True,
) -> History:
    """Train `model` in place and return its `History`, with the averaged model in `history.ema`.

    Forward passes run in the device's fast precision, weights stay float32: see `labkit.runtime.half_precision`.

    Arguments:
        loss_fn: `loss_fn(model, z, y)` -> scalar; its randomness is torch's global one.
        batches: yields `(z, y)` on the model's device, at least `steps` times; with `state_dict` and `load_state_dict`
            if training is to be resumed (`labkit.data.batches` and `draws` have them).
        steps: optimiser steps in all, those before a resume included.
        lr: AdamW's largest learning rate, reached after `warmup` steps (default 5% of all) and then falling to 0.
        clip: largest norm of the gradient.
        ema_gamma: exponent of the averaging rule, see `PowerAverage`.
        checkpoint: file that is replaced at the end, and after every `checkpoint_seconds` (the clock is read every 50
            steps).
        resume: a checkpoint of the same training to continue from; on the CPU the result equals an uninterrupted run.
        progress: show a bar.
    Raises ValueError for arguments out of range and for a checkpoint that does not fit; RuntimeError if the loss or the
    gradient is no longer finite, naming the step: the last good checkpoint stays.
    """
    warmup = max(1, int(steps) // 20) if warmup is None else warmup
    if not isinstance(steps, int) or steps < 1 or not 0 < warmup <= steps:
        raise ValueError(f"steps must be at least 1 and warmup in 1..steps; got steps={steps}, warmup={warmup}")
    for name, value in {"lr": lr, "clip": clip, "ema_gamma": ema_gamma}.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be finite and positive; got {value}")
    if not (math.isfinite(weight_decay) and weight_decay >= 0):
        raise ValueError(f"weight_decay must be finite and at least 0; got {weight_decay}")
    on = next(model.parameters()).device

    state = None if resume is None else _read_checkpoint(Path(resume), on)
    heavy = any(p.ndim == 4 for p in model.parameters()) or sum(p.numel() for p in model.parameters()) >= HEAVY
    half = half_precision(on, heavy=heavy)
    if state is not None and on.type == "cpu":
        half = PRECISIONS[state["precision"]]  # to the same weights as without the interruption
    if on.type != "cpu" or half is None:  # bfloat16 convolutions on a CPU are faster without
        model.to(memory_format=torch.channels_last)  # faster convolutions; leaves everything but 4-D weights alone
    fused = on.type in ("cpu", "cuda")
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay, fused=fused)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda n: min((n + 1) / warmup, (steps - n) / max(1, steps - warmup))
    )
    scaler = torch.amp.GradScaler(on.type, enabled=half == torch.float16)
    averaged = PowerAverage(model, ema_gamma)
    settings = {
        "steps": steps,
        "lr": lr,
        "warmup": warmup,
        "weight_decay": weight_decay,
        "clip": clip,
        "ema": ema_gamma,
    }
    parts = {"model": model, "ema": averaged, "optimizer": optimizer, "schedule": schedule, "scaler": scaler}
    history = History(averaged.module, precision=str(half or torch.float32).removeprefix("torch."))
    if state is not None:
        _load(state, Path(resume), parts, batches, settings, history, on)

    def save() -> None:
        if checkpoint is not None:
            _save(Path(checkpoint), parts, batches, settings, history, on)

    # One row a step: loss and gradient norm. Rows are read, and judged, CHECK_EVERY steps at a time.
    rows: list[Tensor] = []
    started = saved = time.perf_counter()
    before = history.seconds
    stream = iter(batches)
    model.train()
    with tqdm(total=steps, initial=history.steps, disable=not progress, file=sys.stdout, mininterval=1.0) as bar:
        while history.steps < steps:
            for _ in range(min(CHECK_EVERY, steps - history.steps)):
                z, y = _next_batch(stream, history.steps + len(rows), on)
                with autocast(on, half):
                    loss = loss_fn(model, z, y)
                scaler.scale(loss).backward()
                scaler.unscale_(optimizer)
                norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad(set_to_none=True)
                schedule.step()
                averaged.update(model)
                rows.append(torch.stack((loss.detach().float(), norm.float())))
            _read(rows, history, scaler.is_enabled())
            history.seconds = before + time.perf_counter() - started
            bar.set_postfix(
                loss=f"{sum(history.losses[-CHECK_EVERY:]) / len(history.losses[-CHECK_EVERY:]):.4f}", refresh=False
            )
            bar.update(history.steps - bar.n)
            if time.perf_counter() - saved > checkpoint_seconds:
                save()
                saved = time.perf_counter()
    save()
    model.eval()
    history.ema.eval()
    return history


def steps_within(seconds: float, train: Callable[[int], History], share: float = 0.05) -> int:
    """How many steps of `train(steps)`, which trains afresh every time, fit into `seconds`; at least 1.

    Measured on three short trainings that take this share of the time: the first sets up whatever is set up once, the
    second says how long the third has to be.
    """
    train(2)
    some = max(2, int(seconds * share / (train(2).seconds / 2)))
    return max(1, int(seconds / (train(some).seconds / some)))


def _next_batch(stream: Iterator[tuple[Tensor, Tensor]], step: int, on: torch.device) -> tuple[Tensor, Tensor]:
    """The next batch; the very first one is checked, value by value."""
    try:
        z, y = next(stream)
    except StopIteration:
        raise ValueError(f"batches ended after {step} steps; they must last for all of them") from None
    if step:
        return z, y
    if not z.is_floating_point() or not z.isfinite().all():
        raise ValueError(
            f"batches must yield finite floating-point z; the first is {z.dtype}, finite: {bool(z.isfinite().all())}"
        )
    if z.device.type != on.type:
        raise ValueError(f"batches must yield tensors on the model's device, {on}; the first is on {z.device}")
    return z, y


def _read(rows: list[Tensor], history: History, scaled: bool) -> None:
    """Move the rows into the history; raise at the first that is not finite.

    A scaled float16 gradient may overflow: the scaler skips that step, and so does the check.
    """
    for loss, norm in torch.stack(rows).tolist():
        if not (math.isfinite(loss) and (scaled or math.isfinite(norm))):
            what = "loss" if not math.isfinite(loss) else "gradient"
            raise RuntimeError(
                f"the {what} is not finite at step {history.steps + 1}: training stops there, and the last checkpoint, "
                "if any, is from before. Lower lr, or look for a division by zero in the loss"
            )
        history.losses.append(loss)
    rows.clear()


def _save(path: Path, parts: dict, batches: Iterable, settings: dict, history: History, on: torch.device) -> None:
    state = {name: part.state_dict() for name, part in parts.items()}
    state |= {
        "settings": settings,
        "losses": history.losses,
        "seconds": history.seconds,
        "precision": history.precision,
    }
    state |= {"rng": torch.get_rng_state(), "batches": batches.state_dict() if hasattr(batches, "state_dict") else None}
    if on.type == "cuda":
        state["cuda_rng"] = torch.cuda.get_rng_state(on)
    with atomic_write(path) as temporary:
        torch.save(state, temporary)


def _read_checkpoint(path: Path, on: torch.device) -> dict:
    if not path.is_file():
        raise ValueError(f"resume={str(path)!r} is no file; start without resume, or name a checkpoint that fit wrote")
    try:
        state = torch.load(path, map_location=on, weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is none of its own
        raise ValueError(f"{path} is no checkpoint that can be read: {error}") from error
    if not isinstance(state, dict) or not {"settings", "precision"} <= state.keys():
        raise ValueError(f"{path} is no checkpoint that this version of fit wrote")
    return state


def _load(
    state: dict, path: Path, parts: dict, batches: Iterable, settings: dict, history: History, on: torch.device
) -> None:
    if state["settings"] != settings:
        raise ValueError(f"{path} is from another training: it has {state['settings']}, this one {settings}")
    if state["batches"] is None or not hasattr(batches, "load_state_dict"):
        raise ValueError("to resume, batches must have state_dict and load_state_dict, as labkit.data.batches has")
    try:
        for name, part in parts.items():
            part.load_state_dict(state[name])
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{path} is from another model: {error}") from error
    batches.load_state_dict({key: v.cpu() if isinstance(v, Tensor) else v for key, v in state["batches"].items()})
    history.losses, history.seconds = list(state["losses"]), state["seconds"]
    torch.set_rng_state(state["rng"].cpu())
    if "cuda_rng" in state:
        torch.cuda.set_rng_state(state["cuda_rng"].cpu(), on)
