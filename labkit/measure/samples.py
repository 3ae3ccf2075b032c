"""Samples on demand: from a model and conditions to finished data, the same way in every measurement and widget."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from labkit.base.conditions import Condition, Null, check_condition, each, null_of, own_null, rows
from labkit.base.inputs import NULL, Kind, a, insist, takes, tensor, whole
from labkit.base.joints import Field, Model, Step
from labkit.base.runtime import autocast, half_precision
from labkit.flow.guidance import Rule, conditional, guided, plain
from labkit.flow.solvers import midpoint, simulate


def enough_steps(w: float, *, other: bool = False) -> int:
    """Midpoint steps on a uniform grid that draw samples as near to real data as a tight solve does.

    4 for the conditional model alone (w=1), 6 for plain guidance up to w=3 (`benchmarks/last_step.py` measured both);
    10 where the way bends more: for stronger guidance, below w=1, and for any `other` kind, whose rules switch on and
    off or follow a second model.
    """
    if w == 1:
        return 4
    return 6 if 1 < w <= 3 and not other else 10


@takes(x=tensor())
def clipped(x: Tensor) -> Tensor:
    """Pixels as they are shown: clipped to [-1, 1]."""
    return x.clamp(-1, 1)


COUNT = whole(1)
STEPS = Kind(
    "a whole number of steps, at least 1, or a grid of times",
    lambda v: isinstance(v, Tensor) or COUNT.is_one(v),
    lambda v: isinstance(v, Tensor) or COUNT.fits(v),
)


@takes(noise=tensor(finite=True), null=NULL, steps=STEPS, chunk=COUNT)
@torch.no_grad()
def draw(
    model: Model,
    noise: Tensor,
    y: Condition | None,
    w: float,
    null: Null | None = None,
    *,
    steps: int | Tensor | None = None,
    step: Callable[[Field], Step] = midpoint,
    rule: Rule = plain,
    bad: Model | None = None,
    decode: Callable[[Tensor], Tensor] = clipped,
    chunk: int = 500,
    half: bool = False,
) -> Tensor:
    """decode(x_1) on the CPU: where the guided flow takes `noise` (B, ...) from t=0 to t=1, told the condition y.

    Times are a uniform grid. The midpoint method evaluates each branch of guidance 2 * steps times, and never at t=1,
    where velocities jump: a step that averages over the jump leaves specks of noise on the paper (see `heun`).

    Arguments:
        model: a network, which is asked on its own device, or a function (x, t, y) for that of the noise.
        y: the condition, or None for a model that is told nothing, with w=1.
        noise: on any device, like y; `labkit.base.seeded_noise` draws the same for every w and device.
        null, rule, bad: the kind of guidance, as in `guided`.
        steps: how many on a uniform grid, or the grid (n + 1,) itself; default `enough_steps` of the midpoint method: 8
            evaluations a branch at w=1, 12 up to w=3, 20 at others.
        decode: what is done to finished samples, on the device: pixels are clipped, latents need their decoder.
        chunk: samples that travel together; it changes the memory, not the result.
        half: evaluate model and `bad`, but not the solver, in the fast precision of the device (`half_precision`).
    Raises ValueError for noise that is not finite, a condition of another length or of unknown labels, and no steps.
    """
    if steps is None:
        steps = enough_steps(w, other=rule is not plain or bad is not None)
    if not len(noise):
        raise ValueError(f"noise must be of a sample at least; got shape {tuple(noise.shape)}")
    if y is None:
        if w != 1:
            raise ValueError(f"w must be 1 where nothing is told (y=None): there is nothing to guide by; got {w}")
    else:
        null = null_of(model, null) if bad is None else own_null(model)
        check_condition(y, len(noise), null)  # before labels go to a device, which would not look at them
    on = (next(model.parameters(), noise) if isinstance(model, nn.Module) else noise).device
    dtype = half_precision(on, heavy=True) if half else None
    good, bad = _rough(model, on, dtype), None if bad is None else _rough(bad, on, dtype)
    ts, drawn = steps if isinstance(steps, Tensor) else torch.linspace(0, 1, steps + 1), []
    for start in range(0, len(noise), chunk):
        some = slice(start, start + chunk)
        x, some_y = noise[some].to(on), y if y is None else each(lambda part: part.to(on), rows(y, some))
        field = conditional(good, None) if y is None else guided(good, some_y, w, null, rule=rule, bad=bad)
        done = decode(simulate(step(field), x, ts))
        insist("decode's value", done, a(Tensor))
        drawn.append(done.cpu())
    return torch.cat(drawn)


def _rough(model: Model, on: torch.device, dtype: torch.dtype | None) -> Model:
    own = next((w.dtype for w in model.parameters()), None) if isinstance(model, nn.Module) else None

    def evaluate(x: Tensor, t: Tensor, y: Condition) -> Tensor:
        with autocast(on, dtype):  # only the network's own work is rough, not the solver's
            return model(x if own is None else x.to(own), t, y).to(x.dtype)

    return model if dtype is None and own in (None, torch.float32) else evaluate


def sampling_settings(steps: int | None = None) -> dict[str, str | int]:
    """How the samples of measurements are drawn and by whom they are judged, for cards; `steps` as in `draw`."""
    if steps is None:
        counts = enough_steps(1), enough_steps(3), enough_steps(3, other=True)
        taken = "{} steps at w = 1, {} up to w = 3, {} at others and for other kinds of guidance".format(*counts)
        cost = "{}, {} and {}".format(*(2 * count for count in counts))
    else:
        taken, cost = f"{steps} steps", f"{2 * steps}"
    return {"judge": "mnist-judge", "solver": f"midpoint, {taken}: {cost} evaluations a branch", "seed": 0}
