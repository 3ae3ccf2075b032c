"""How few evaluations are enough, and what the last step costs: `python benchmarks/last_step.py NAME`.

Draws the same samples of a shipped model by Euler, Heun and the midpoint method on uniform grids, the last two as in
the textbook and with Euler's step as their last, at w=1 and w=3, and lets the judge compare each cloud with real
digits. Writes the table `NAME-solvers` of the assets; its last rows are tight solves. On a CPU the networks run in its
fast precision, where a thousand samples take half an hour; the card names it.
"""

import argparse
from collections.abc import Callable, Sequence

from guidance_table import fast_drawing
from torch import Tensor

from labkit.base.files import FOLDER, Card, provenance, write_table
from labkit.base.joints import Field, Step
from labkit.base.runtime import device, seeded_noise
from labkit.data import balanced_labels
from labkit.flow import euler, heun, midpoint
from labkit.measure import Judge, draw, real_quality
from labkit.measure.quality import rounded
from labkit.training import load_pretrained

Method = Callable[[Field], Step]


def textbook_heun(field: Field) -> Step:
    """Heun's method without exception: its last step asks the field at t=1."""

    def step(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        h = (s - t)[:, None, None, None]
        k1 = field(x, t)
        return x + h / 2 * (k1 + field(x + h * k1, s))

    return step


def euler_last(method: Method) -> Method:
    """The method with Euler's step into t=1."""

    def made(field: Field) -> Step:
        step, last = method(field), euler(field)
        return lambda x, t, s: last(x, t, s) if s[0] == 1 else step(x, t, s)

    return made


#: By name: the method, its evaluations of n steps, and the n that are tried.
METHODS: dict[str, tuple[Method, Callable[[int], int], Sequence[int]]] = {
    "Euler": (euler, lambda n: n, (8, 12, 20)),
    "Heun, textbook": (textbook_heun, lambda n: 2 * n, (3, 4, 6, 10)),
    "Heun, Euler last": (heun, lambda n: 2 * n - 1, (2, 3, 4, 6, 8, 12)),
    "midpoint": (midpoint, lambda n: 2 * n, (3, 4, 6, 10)),
    "midpoint, Euler last": (euler_last(midpoint), lambda n: 2 * n - 1, (2, 3, 4, 6, 8, 12)),
    "tight": (midpoint, lambda n: 2 * n, (24,)),
}


def last_step(name: str, *, n: int = 1_000, methods: dict = METHODS, ws: Sequence[float] = (1.0, 3.0)) -> Card:
    """Measure every method and number of steps at every w, write the table and return its card."""
    on = device()
    model, weights = load_pretrained(name, on)
    judge, y, noise = Judge.pretrained(device=on), balanced_labels(n, model.null), seeded_noise(n, 1, 32, 32)
    fast, precision = fast_drawing(on)
    details = provenance(on) | {"judge": "mnist-judge", "seed": 0, "precision": precision, "weights": weights.sha256}
    details |= {"real digits at the same n": rounded(real_quality(judge, n).row())}

    rows = []
    for w in ws:
        for method, (step, evaluations, counts) in methods.items():
            for steps in counts:
                x = draw(model, noise, y, w, steps=steps, step=step, **fast)
                quality = judge.measure(x, y)
                settings = {"method": method, "w": w, "steps": steps, "evaluations": evaluations(steps)}
                rows.append(settings | quality.row())
                print(f"w={w:g}, {method}, {evaluations(steps)} evaluations a branch: {quality}", flush=True)
    card = Card(f"Quality of {name} by solver", f"python benchmarks/last_step.py {name}", "MIT", details)
    return write_table(FOLDER / f"{name}-solvers.csv", rows, card)


def main() -> None:
    """Measure and write; see the head of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="the model, for example mnist-unet")
    parser.add_argument("--samples", type=int, default=1_000, help="samples of each row (default 1000)")
    asked = parser.parse_args()
    last_step(asked.name, n=asked.samples)


if __name__ == "__main__":
    main()
