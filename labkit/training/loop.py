"""The training loop: `fit` takes steps until it has taken `steps`, and can be stopped and resumed.

One step: draw a batch, take the loss, clip the gradient, step the optimisers, move the averaged copy. No value is read
back from an accelerator inside a step: losses stay there and are read every CHECK_EVERY steps, for the bar and for NaN.
"""

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from labkit.base.conditions import Condition
from labkit.base.inputs import described, number, positive, takes, whole
from labkit.base.runtime import PRECISIONS, autocast, half_precision
from labkit.training.average import PowerAverage
from labkit.training.checkpoint import Checkpoint, RandomState, owned, read_checkpoint
from labkit.training.entrance import Stream, check_writable, checked
from labkit.training.graph import Replayed
from labkit.training.muon import made

CHECK_EVERY = 50
HEAVY = 500_000  # weights from which on a network is worth a faster precision even without convolutions

LossFn = Callable[[nn.Module, Tensor, Condition], Tensor]


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
        return len(self.losses)

    def mean(self, last: int = 50) -> float:
        """Mean loss of the last steps: of all, where there are fewer. Raises ValueError where there are none."""
        if last < 1 or not self.losses:
            raise ValueError(f"last must be at least 1, after at least one step; got {last} after {self.steps}")
        return sum(self.losses[-last:]) / len(self.losses[-last:])

    def state_dict(self) -> dict:
        return {"losses": self.losses, "seconds": self.seconds, "precision": self.precision}

    def load_state_dict(self, state: dict) -> None:
        self.losses, self.seconds, self.precision = list(state["losses"]), state["seconds"], state["precision"]


@takes(steps=whole(1), lr=positive(), muon=positive(), warmup=whole(1), weight_decay=number(0), clip=positive(),
       ema_gamma=positive(), checkpoint_seconds=number(0))  # fmt: skip
@torch.inference_mode(False)
@torch.enable_grad()
def fit(
    model: nn.Module,
    loss_fn: LossFn,
    stream: Stream,
    *,
    steps: int,
    lr: float,
    muon: float | None = None,
    warmup: int | None = None,
    weight_decay: float = 0.01,
    clip: float = 1.0,
    ema_gamma: float = 9.0,
    checkpoint: Path | str | None = None,
    checkpoint_seconds: float = 60.0,
    resume: Path | str | None = None,
    graph: bool = False,
    progress: bool = True,
) -> History:
    """Train `model` in place by AdamW and return its `History`, with the averaged model in `history.ema`.

    Forward passes run in the device's fast precision (`labkit.base.runtime.half_precision`), weights stay float32. A
    model whose weights are all frozen, as `load_pretrained` gives it, is thawed.

    Arguments:
        loss_fn: `loss_fn(model, z, y)` -> scalar; its randomness is torch's global one.
        stream: yields `(z, y)` on the model's device, at least `steps` times; with `state_dict` and `load_state_dict`
            if there is a checkpoint (`labkit.data.batches` and `draws` have them).
        steps: optimiser steps in all, those before a resume included.
        lr: the largest learning rate, reached after `warmup` steps (default 5% of all) and then falling to 0.
        muon: the same of Muon, which takes the inner weights from AdamW (see `labkit.training.muon`), such as 0.02.
        clip: largest norm of the gradient; ema_gamma: see `PowerAverage`.
        checkpoint: file that is replaced at the end, and every `checkpoint_seconds` (looked at after each 50 steps).
        resume: a checkpoint of the same training to continue from; on the CPU the result equals an uninterrupted run.
            The file of `checkpoint` need not be there yet: then the training begins.
        graph: on a CUDA device that trains in bfloat16 or float32, record the step once and replay it (`Replayed`):
            several times as fast for small networks. `loss_fn` must then do the same device work at every step.
    Raises ValueError or TypeError for arguments, conditions, first batch or checkpoint that do not fit; RuntimeError
    with the step whose loss or gradient is not finite: the last good checkpoint stays. What ends a training early, a
    Ctrl-C too, carries the history so far as its attribute `history`.
    """
    if not isinstance(stream, Iterable) or isinstance(stream, str):
        raise TypeError(f"stream must yield batches (z, y), as batches(...) does; got {described(stream)}")
    warmup = max(1, int(steps) // 20) if warmup is None else warmup
    steps, lr = int(steps), float(lr)
    settings = dict(
        steps=steps, lr=lr, muon=muon, warmup=warmup, weight_decay=weight_decay, clip=clip, ema_gamma=ema_gamma
    )
    if warmup > steps:
        raise ValueError(f"warmup must lie in 1..steps; got {warmup} of {steps}")
    on = next((weight.device for weight in model.parameters()), None)
    if on is None:
        raise ValueError("model must have weights to train; it has none")
    checkpoint = None if checkpoint is None else check_writable(Path(checkpoint).expanduser())
    if (checkpoint or resume) and not (hasattr(stream, "state_dict") and hasattr(stream, "load_state_dict")):
        raise ValueError("stream must have state_dict and load_state_dict to be resumed, as batches and draws have")
    resume = None if resume is None else Path(resume).expanduser()
    afresh = resume is None or (resume == checkpoint and not resume.exists())
    state = None if afresh else read_checkpoint(resume)
    half = _prepare(model, on, state)
    bare = getattr(model, "_orig_mod", model)  # of a compiled model; its weights are named as they were

    graph = graph and on.type == "cuda" and half != torch.float16  # a scaler decides on the host
    optimizers = made(model, lr, muon, weight_decay, graph=graph)

    def up_and_down(n: int) -> float:
        return min((n + 1) / warmup, (steps - n) / max(1, steps - warmup))

    decays = {f"decay of {name}": LambdaLR(one, up_and_down) for name, one in optimizers.items()}
    scaler = torch.amp.GradScaler(on.type, enabled=half == torch.float16)
    average = PowerAverage(bare, ema_gamma)
    history = History(average.module, precision=str(half or torch.float32).removeprefix("torch."))
    parts = {"model": bare, "ema": average, "scaler": scaler} | optimizers | decays
    saved = Checkpoint(parts | {"stream": stream, "history": history, "random": RandomState(on)}, settings)
    if state is not None:
        saved.load(state, resume)

    def step(z: Tensor, y: Condition | None) -> Tensor:
        with autocast(on, half):
            loss = loss_fn(model, z, y)
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
            raise TypeError(f"loss_fn must return one number, a tensor with a gradient; got {described(loss)}")
        scaler.scale(loss).backward()
        for optimizer in optimizers.values():
            scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
        for optimizer in optimizers.values():
            scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        scaler.update()
        return torch.stack((loss.detach().float(), norm.float()))

    take = Replayed(step) if graph else step
    source = checked(stream, model, on, history.steps)
    saved_at = time.perf_counter()
    began = saved_at - history.seconds
    model.train()
    with (
        _left_behind(model, history),
        owned(checkpoint) if checkpoint is not None else nullcontext(),
        tqdm(total=steps, initial=history.steps, disable=not progress, file=sys.stdout, mininterval=1.0) as bar,
    ):
        while history.steps < steps:
            rows = []
            for _ in range(min(CHECK_EVERY, steps - history.steps)):
                rows.append(take(*next(source)))
                for decay in decays.values():
                    decay.step()
                average.update(bare)
            _read(rows, history, scaler.is_enabled())
            history.seconds = time.perf_counter() - began
            bar.set_postfix(loss=f"{history.mean(CHECK_EVERY):.4f}", refresh=False)
            bar.update(history.steps - bar.n)
            if checkpoint is not None and time.perf_counter() - saved_at > checkpoint_seconds:
                saved.save(checkpoint)
                saved_at = time.perf_counter()
        if checkpoint is not None:
            saved.save(checkpoint)
    return history


@contextmanager
def _left_behind(model: nn.Module, history: History) -> Iterator[None]:
    """Whatever ends a training: both models in eval mode, and the history with the error, as `error.history`."""
    try:
        yield
    except BaseException as error:
        error.history = history
        error.add_note(f"What was trained is this error's `history`: {history.steps} steps, and the average `ema`.")
        raise
    finally:
        model.eval()
        history.ema.eval()


def _prepare(model: nn.Module, on: torch.device, state: dict | None) -> torch.dtype | None:
    """Thaw a model that is frozen as a whole, choose the dtype of forward passes and lay 4-D weights out for it."""
    weights = list(model.parameters())
    if any(p.is_inference() for p in weights):
        raise ValueError("model was made under torch.inference_mode, and cannot be trained: make it outside")
    if not any(p.requires_grad for p in weights):
        model.requires_grad_(True)
    if state is not None and on.type == "cpu":  # resumed in the dtype it had, it comes to the same weights
        half = PRECISIONS.get(state["parts"]["history"].get("precision"))
    elif any(p.dtype != torch.float32 for p in weights):
        half = None
    else:
        half = half_precision(on, heavy=any(p.ndim >= 4 for p in weights) or sum(p.numel() for p in weights) >= HEAVY)
    for p in weights:
        if p.ndim == 4 and (on.type != "cpu" or half is None):  # bfloat16 convolutions on a CPU are faster without
            p.data = p.data.to(memory_format=torch.channels_last)
    return half


def _read(rows: list[Tensor], history: History, scaled: bool) -> None:
    """Move the rows (loss, norm of the gradient) into the history; raise at the first that is not finite.

    A `scaled` float16 gradient may overflow: the scaler skips that step, and so does the check.
    """
    for loss, norm in torch.stack(rows).tolist():
        if not (math.isfinite(loss) and (scaled or math.isfinite(norm))):
            what = "gradient" if math.isfinite(loss) else "loss"
            raise RuntimeError(
                f"the {what} is not finite at step {history.steps + 1}: training stops there, and the last checkpoint, "
                "if any, is from before. Lower lr, or look for NaN in the data and for a division by zero in the loss"
            )
        history.losses.append(loss)


@takes(seconds=positive(), share=positive(1), few=whole(1))
def steps_within(seconds: float, train: Callable[[int], History], share: float = 0.05, few: int = 2) -> int:
    """How many steps of `train(steps)`, which trains afresh every time, fit into `seconds`; at least 1.

    Measured on three short trainings that take this share of the time: the first sets up whatever is set up once, the
    second, of `few` steps, says how long the third has to be, and how much of it is no step. A training with `graph`
    records its fourth step, so that `few` should be more than that.
    """
    if not isinstance(train(few), History):
        raise TypeError("train must return the History of a training, as fit does")
    first = train(few).seconds
    some = max(2 * few - 2, int(seconds * share / (first / few)))  # 2 after 2, where a step takes minutes
    last = train(some).seconds
    each = (last - first) / (some - few) if some > few else last / some
    return max(1, int(few + (seconds - first) / each))
