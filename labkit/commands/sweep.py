"""`python -m labkit sweep NAME`: quality and diversity of a shipped model by guidance scale and by kind of guidance.

Writes the table `NAME-guidance`, from which lessons and explorer draw. Every row starts from the same noise.
"""

from functools import partial

import torch

from labkit.assets import FOLDER, Card, write_table
from labkit.commands.measure import rounded, settings
from labkit.commands.provenance import provenance
from labkit.data import mnist32
from labkit.fields import autoguided, guided, projected, rescaled
from labkit.judge import CLASSES, PLAIN, Judge, real_digits
from labkit.metrics import frechet_minimum
from labkit.pretrained import load_pretrained, names
from labkit.runtime import device, half_precision
from labkit.sampling import Guide, balanced_labels, draw_images

WS = (0.0, 0.5, 1.0, 1.25, 1.5, 1.75, 2.0, 3.0, 5.0, 8.0)
VARIANT_WS = (1.5, 3.0, 5.0, 8.0)
INTERVAL = (0.2, 0.8)


def sweep(name: str, *, n: int = 2_000, steps: int = 10, draws: int = 200) -> Card:
    """Measure n class-balanced samples for every w and variant, write the table and return its card.

    On a CPU the networks run in its fast precision, where a table of this size takes half an hour; elsewhere in
    float32, so that autoguidance's two models run alike. The card names the precision.
    Autoguidance is measured where its worse model ships, as NAME-weak.
    """
    on = device()
    model, weights = load_pretrained(name, on)
    judge, y = Judge.pretrained(device=on), balanced_labels(n, CLASSES)
    half, chunk = (True, 100) if on.type == "cpu" else (False, 500)
    precision = str((half_precision(on, heavy=True) if half else None) or torch.float32).removeprefix("torch.")
    details = provenance(on) | settings(steps) | {"precision": precision, "weights": weights.sha256}
    details["interval"] = list(INTERVAL)
    real, real_y = real_digits(n)
    details["real digits at the same n"] = rounded(
        judge.measure(real, real_y)._asdict() | judge.diversity(real, real_y)._asdict()
    )

    rows, features = [], {}
    for variant, (guide, ws) in variants(name).items():
        for w in ws:
            x = draw_images(model, y, w, steps=steps, guide=guide, half=half, chunk=chunk)
            rows.append({"variant": variant, "w": w} | judge.measure(x, y)._asdict() | judge.diversity(x, y)._asdict())
            print(rounded(rows[-1]), flush=True)
            if variant == PLAIN:
                features[w] = judge.features(x)

    best, low, high = frechet_minimum(
        judge.features(mnist32("test").images), features, draws=draws, generator=torch.Generator().manual_seed(0)
    )
    details["smallest Fréchet distance"] = {"w": best, "low": low, "high": high, "bootstrap draws": draws}
    card = Card(f"Quality and diversity of {name} by guidance", f"python -m labkit sweep {name}", "MIT", details)
    return write_table(FOLDER / f"{name}-guidance.csv", rows, card)


def variants(name: str) -> dict[str, tuple[Guide, tuple[float, ...]]]:
    """For every kind of guidance what makes its field, and the scales at which it is measured."""
    found: dict[str, tuple[Guide, tuple[float, ...]]] = {
        PLAIN: (guided, WS),
        "interval": (partial(guided, interval=INTERVAL), VARIANT_WS),
        "rescaled": (rescaled, VARIANT_WS),
        "projected": (projected, VARIANT_WS),
    }
    if f"{name}-weak" in names():
        bad, _ = load_pretrained(f"{name}-weak", device())
        found["autoguided"] = (lambda good, y, w, null: autoguided(good, bad, y, w), VARIANT_WS)
    return found
