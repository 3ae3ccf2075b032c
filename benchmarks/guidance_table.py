"""Quality and diversity of a shipped model by scale and kind of guidance: `python benchmarks/guidance_table.py NAME`.

Writes the table `NAME-guidance` of the assets, from which lessons and explorer draw. Every row starts from the same
noise. Autoguidance is measured where its worse model ships, as NAME-weak. On a CPU the networks run in its fast
precision, where such a table takes half an hour; elsewhere in float32. The card names the precision.
"""

import argparse
import json
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from labkit.base.files import FOLDER, Card, provenance, write_table
from labkit.base.runtime import device, half_precision, seeded_noise
from labkit.data import balanced_labels
from labkit.measure import Judge, draw, kinds_of_guidance, real_quality
from labkit.measure.metrics import frechet_distance
from labkit.measure.quality import rounded
from labkit.measure.samples import sampling_settings
from labkit.measure.sweeps import INTERVAL, PLAIN
from labkit.training import load_pretrained, names

WS = (0.0, 0.5, 1.0, 1.25, 1.5, 1.75, 2.0, 3.0, 5.0, 8.0)  # of plain guidance
OTHER_WS = (1.5, 3.0, 5.0, 8.0)  # of the other kinds


def guidance_table(
    name: str,
    *,
    n: int = 2_000,
    steps: int | None = None,
    draws: int = 200,
    ws: Iterable[float] = WS,
    other_ws: Iterable[float] = OTHER_WS,
) -> Card:
    """Measure n class-balanced samples for every kind of guidance and w, write the table and return its card."""
    on = device()
    model, weights = load_pretrained(name, on)
    weak = load_pretrained(f"{name}-weak", on)[0] if f"{name}-weak" in names() else None
    judge, y, noise = Judge.pretrained(device=on), balanced_labels(n, model.null), seeded_noise(n, 1, 32, 32)
    fast, precision = fast_drawing(on)
    details = provenance(on) | sampling_settings(steps) | {"precision": precision, "weights": weights.sha256}
    details |= {"interval": list(INTERVAL), "real digits at the same n": rounded(real_quality(judge, n).row())}

    rows, features = [], {}
    for kind, options in kinds_of_guidance(weak).items():
        for w in ws if kind == PLAIN else other_ws:
            seen = judge.read(draw(model, noise, y, w, steps=steps, **fast, **options))
            quality = judge.measure(seen, y)
            rows.append({"variant": kind, "w": w} | quality.row())
            print(f"{kind}, w={w:g}: {quality}", flush=True)
            if kind == PLAIN:
                features[w] = seen.features

    generator = torch.Generator().manual_seed(0)
    best, low, high = frechet_minimum(judge.real_reading.features, features, draws=draws, generator=generator)
    details["smallest Fréchet distance"] = {"w": best, "low": low, "high": high, "bootstrap draws": draws}
    source = f"python benchmarks/guidance_table.py {name}"
    card = Card(f"Quality and diversity of {name} by guidance", source, "MIT", details)
    return write_table(FOLDER / f"{name}-guidance.csv", rows, card)


def fast_drawing(on: torch.device) -> tuple[dict[str, Any], str]:
    """Options of `draw` for thousands of samples on a device, and the precision in which they run the networks."""
    if on.type != "cpu":
        return {"half": False, "chunk": 500}, "float32"
    precision = half_precision(on, heavy=True) or torch.float32
    return {"half": True, "chunk": 100}, str(precision).removeprefix("torch.")


def frechet_minimum(
    real: Tensor,
    fakes: dict[float, Tensor],
    *,
    draws: int = 200,
    confidence: float = 0.95,
    generator: torch.Generator | None = None,
) -> tuple[float, float, float]:
    """The key of `fakes` with the smallest Frechet distance to `real`, with a bootstrap interval: `(best, low, high)`.

    All sets of `fakes` have n rows, and row i of each comes from the same noise. Each of the `draws` takes n rows at
    random, with replacement and the same ones of every set, and finds the best key again; low and high are the
    percentiles of these. Bootstrap Methods: Another Look at the Jackknife (1979).
    """
    counts = {len(fake) for fake in fakes.values()}
    if len(counts) != 1 or draws < 1 or not 0 < confidence < 1:
        raise ValueError(
            "need sets of equal size, draws >= 1 and 0 < confidence < 1; "
            f"got sizes {sorted(counts)}, {draws} draws, {confidence}"
        )
    (n,) = counts

    def best(rows: Tensor) -> float:
        return min(fakes, key=lambda key: frechet_distance(real, fakes[key][rows]))

    found = sorted(best(torch.randint(n, (n,), generator=generator)) for _ in range(draws))
    cut = int((1 - confidence) / 2 * draws)
    return best(torch.arange(n)), found[cut], found[-1 - cut]


def main() -> None:
    """Measure and write; see the head of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="the model, for example mnist-unet")
    parser.add_argument("--samples", type=int, default=2_000, help="samples of each row (default 2000)")
    parser.add_argument("--steps", type=int, help="steps of the midpoint method (default: enough)")
    parser.add_argument("--draws", type=int, default=200, help="bootstrap draws of the best scale (default 200)")
    parser.add_argument("--scales", type=float, nargs="+", default=WS, metavar="W", help="scales of plain guidance")
    parser.add_argument("--other-scales", type=float, nargs="*", default=OTHER_WS, metavar="W", help="of other kinds")
    asked = parser.parse_args()
    options = {"steps": asked.steps, "draws": asked.draws, "ws": asked.scales, "other_ws": asked.other_scales}
    print(json.dumps(guidance_table(asked.name, n=asked.samples, **options).details, indent=2))


if __name__ == "__main__":
    main()
