"""`python -m labkit measure NAME`: let the judges judge what ships, and write the figures where they belong.

For a judge: what real digits score against real digits, onto its card. For a generator: the headline figures onto its
card, and its quality at many guidance scales into a table of its own.
"""

from dataclasses import replace

from labkit.assets import FOLDER, Card, write_card, write_table
from labkit.commands.provenance import provenance
from labkit.judge import CLASSES, Judge, guidance_sweep, real_quality
from labkit.pretrained import load_pretrained
from labkit.runtime import device
from labkit.sampling import balanced_labels, draw_images

REAL_COUNTS = (500, 1_000, 2_000, 10_000)
WS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)


def measure(name: str, *, n: int = 10_000, steps: int = 16, sweep_n: int = 2_000, sweep_steps: int = 10) -> Card:
    """Judge the shipped model `name`, a judge or a generator, and return its card with the figures.

    Arguments (generators only):
        n, steps: samples and midpoint steps of the headline figures, at w=1 and w=3.
        sweep_n, sweep_steps: the same for the table `NAME-guidance`.
    Raises ValueError for a name that does not ship.
    """
    on = device()
    model, card = load_pretrained(name, on)
    if hasattr(model, "features"):
        judge = Judge(model)
        rows = {str(count): rounded(real_quality(judge, count)._asdict()) for count in REAL_COUNTS}
        measured = provenance(on) | {"real digits against real digits, by n": rows}
    else:
        judges = [Judge.pretrained(of, on) for of in ("mnist-judge", "mnist-judge-2")]
        measured = provenance(on) | {"solver": f"midpoint, {steps} steps: {2 * steps} evaluations a branch", "seed": 0}
        measured |= {f"w={w:g}": headline(model, judges, w, n, steps) for w in (1.0, 3.0)}
        sweep(name, model, judges[0], sweep_n, sweep_steps)
    return write_card(FOLDER / f"{name}.safetensors", replace(card, details=card.details | {"measured": measured}))


def headline(model: object, judges: list[Judge], w: float, n: int, steps: int) -> dict:
    """The quality of n class-balanced samples by the first judge, and the second judge's accuracy on them."""
    y = balanced_labels(n, CLASSES)
    x = draw_images(model, y, w, steps=steps)
    second = judges[1].accuracy(x, y)
    return rounded(judges[0].measure(x, y)._asdict()) | {"second judge's accuracy": rounded(second._asdict())}


def sweep(name: str, model: object, judge: Judge, n: int, steps: int) -> Card:
    """Write the table `NAME-guidance`: a row of `Quality` for every w, all from the same noise."""
    weights, began = load_pretrained(name)[1], provenance(device())
    rows = [{"w": w} | quality._asdict() for w, quality in guidance_sweep(model, judge, WS, n, steps=steps).items()]
    details = began | {
        "weights": weights.sha256,
        "judge": "mnist-judge",
        "solver": f"midpoint, {steps} steps: {2 * steps} evaluations a branch",
        "steps": steps,
        "seed": 0,
        "real digits at the same n": rounded(real_quality(judge, n)._asdict()),
    }
    card = Card(f"Quality of {name} by guidance scale w", f"python -m labkit measure {name}", "MIT", details)
    return write_table(FOLDER / f"{name}-guidance.csv", rows, card)


def rounded(figures: dict) -> dict:
    """The same figures with floats cut to five decimals."""
    return {key: round(value, 5) if isinstance(value, float) else value for key, value in figures.items()}
