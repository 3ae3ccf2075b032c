"""The same measurement at every guidance scale, and the kinds of guidance that are compared."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from torch import Tensor

from labkit.base.conditions import Condition
from labkit.base.files import read_table
from labkit.base.inputs import described, insist, number, takes
from labkit.base.joints import Model
from labkit.flow.guidance import limited, projected, rescaled
from labkit.measure.quality import Quality

INTERVAL = (0.2, 0.8)  # of limited guidance, chosen by 200 samples for each of five intervals
PLAIN = "guided"  # the kind that is classifier-free guidance as it is
Figures = TypeVar("Figures")
Sample = Callable[[float, Condition], Tensor]  # (w, y) -> x
Measure = Callable[[Tensor, Condition], Figures]  # (x, y) -> figures


@takes()
def sweep(sample: Sample, measure: Measure[Figures], ws: Iterable[float], y: Condition) -> dict[float, Figures]:
    """`{w: measure(sample(w, y), y)}` for every guidance scale; give `sample` the same noise for all of them.

    For example `sweep(lambda w, y: draw(model, noise, y, w), judge.measure, (1, 3), y)` for `{w: Quality}`.
    """
    if not isinstance(ws, Iterable) or isinstance(ws, str):
        raise TypeError(f"ws must be the guidance scales, such as (1, 3); got {described(ws)}")
    ws = list(ws)
    for w in ws:
        insist("ws", w, number())
    return {float(w): measure(sample(float(w), y), y) for w in ws}


@takes()
def kinds_of_guidance(weak: Model | None = None) -> dict[str, dict[str, Any]]:
    """Kinds of guidance by name, as keyword arguments of `draw` and `guided`; autoguidance where `weak` is given."""
    rules = {"interval": limited(*INTERVAL), "rescaled": rescaled(), "projected": projected()}
    kinds = {PLAIN: {}} | {name: {"rule": rule} for name, rule in rules.items()}
    return kinds if weak is None else kinds | {"autoguided": {"bad": weak}}


@takes()
def shipped_curves(name: str) -> tuple[dict[str, dict[float, Quality]], Quality]:
    """The measured quality of the shipped model `name`: `({kind of guidance: {w: Quality}}, real digits at that n)`.

    These are the rows of the table `NAME-guidance` (ValueError if there is none); see its card.
    """
    rows, card = read_table(f"{name}-guidance")
    curves: dict[str, dict[float, Quality]] = {}
    for row in rows:
        curves.setdefault(row["variant"], {})[float(row["w"])] = Quality.of_row(row)
    return curves, Quality.of_row(card.details["real digits at the same n"])


def shipped_curve(name: str) -> tuple[dict[float, Quality], Quality]:
    """The curve of plain guidance out of `shipped_curves`, and real digits at that n."""
    curves, real = shipped_curves(name)
    return curves[PLAIN], real
