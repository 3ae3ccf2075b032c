"""`python -m labkit measure NAME`: let the judges judge what ships, and write the figures where they belong.

For a judge: what real digits score against real digits, onto its card. For a generator: the headline figures.
"""

from dataclasses import replace

from labkit.base.files import FOLDER, Card, provenance, write_card
from labkit.base.runtime import device, seeded_noise
from labkit.data.images import balanced_labels
from labkit.measure.judge import Judge, real_quality
from labkit.measure.quality import rounded
from labkit.measure.samples import draw, sampling_settings
from labkit.training.cards import network_of
from labkit.training.pretrained import load_pretrained

REAL_COUNTS = (500, 1_000, 2_000, 10_000)


def measure(name: str) -> Card:
    """Judge a shipped model and return its card with the figures. Raises ValueError for a name that does not ship."""
    predicts = network_of(load_pretrained(name)[1]).predicts
    return real_figures(name) if predicts is None else headlines(name)


def real_figures(name: str) -> Card:
    """What real digits score by the judge `name` against real digits, for several n, onto its card."""
    judge = Judge.pretrained(name, device())
    rows = {str(n): rounded(real_quality(judge, n).row()) for n in REAL_COUNTS}
    return onto_card(name, provenance(device()) | {"real digits against real digits, by n": rows})


def headlines(name: str, *, n: int = 10_000, steps: int | None = None) -> Card:
    """The quality of n class-balanced samples at w=1 and w=3, with the second judge's accuracy, onto the card."""
    on = device()
    model, _ = load_pretrained(name, on)
    judge, second = Judge.pretrained(device=on), Judge.pretrained("mnist-judge-2", on)
    measured = provenance(on) | sampling_settings(steps) | {"real digits": rounded(real_quality(judge, n).row())}
    y, noise = balanced_labels(n, model.null), seeded_noise(n, 1, 32, 32)
    for w in (1.0, 3.0):
        x = draw(model, noise, y, w, steps=steps)
        confirmed = {"second judge's accuracy": rounded(second.accuracy(x, y)._asdict())}
        measured[f"w={w:g}"] = rounded(judge.measure(x, y).row()) | confirmed
    return onto_card(name, measured)


def onto_card(name: str, measured: dict) -> Card:
    """Put the figures on the card of the shipped weights `name`."""
    card = load_pretrained(name)[1]
    return write_card(FOLDER / f"{name}.safetensors", replace(card, details=card.details | {"measured": measured}))
