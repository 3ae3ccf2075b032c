"""What a few minutes of training buy: `python benchmarks/speed_to_quality.py --seconds 300`.

Class-conditional generators of MNIST digits, trained from scratch for the same wall-clock seconds in one process, one
after the other, and judged by the shipped digit judge, which none of them has seen:

    labkit         labkit's patch U-Net, `fit`, batches from a tensor on the device; sampled with its averaged weights;
                   on a CPU it sees the 28x28 pixels of a digit, and finished samples get the border of background
    lab3           the recipe of lab three of MIT 6.S184 with its own loader, written anew (MIT licence, ideas only)
    lab3-resident  the same network and settings, but with labkit's batches: what the loader alone costs

Counted in the seconds: reading the data, building the model, for labkit also the short trials that find out how many
steps will fit (its learning rate falls to zero at the last one), and the training. Not counted: imports, starting the
device, sampling and judging. The seconds are printed as they came out: a step is never cut short, and labkit's number
of steps is a forecast. Because a clock decides, figures differ a little from run to run, whatever the seed.

Judged are class-balanced samples by the midpoint method in 16 steps, at guidance w=1 and w=3, from the same noise. The
Frechet distance depends on the number of samples n, and so it stands beside that of n real digits; below 90% accuracy
it is not printed. lab3 learns digits resized to 32x32, where the judge knows padded ones: before its samples are judged
that resizing is undone by least squares, which leaves real digits as they were, and they are padded.
"""

import argparse
import json
import time
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from lab_three import BATCH, LabThreeUNet, one_by_one, train_until, unstretch
from screen import RECIPES, framed
from torch import Tensor, nn

from labkit.base import device, machine, seed_everything, seeded_noise
from labkit.data import balanced_labels, batches, mnist32
from labkit.measure import Judge, Quality, draw, real_quality, share, sweep
from labkit.training import steps_within

SCALES = (1.0, 3.0)
REACHED = 0.9  # accuracy at w=1 from which on a Frechet distance says something
TRIAL = 0.02  # the length of each of labkit's three trials as a share of the seconds


class Trained(NamedTuple):
    """A trained model in eval mode, and what it took; `start_up` is a part of `seconds`."""

    model: nn.Module
    precision: str
    batch: int
    steps: int
    start_up: float
    seconds: float
    size: int = 32

    @property
    def images_per_second(self) -> float:
        """Images trained on in a second, without the start-up."""
        return self.steps * self.batch / (self.seconds - self.start_up)


def train_labkit(on: torch.device, seconds: float, seed: int) -> Trained:
    """Train labkit's U-Net by its best recipe, for as many steps as a short trial on a copy says will fit."""
    began = time.perf_counter()
    seed_everything(seed)
    tried = RECIPES["wide-512" if on.type == "cuda" else "cpu-muon-28-wide"]
    model, data = tried.network().to(on), [part.to(on) for part in mnist32("train")]
    trial = partial(steps_within, seconds, lambda steps: tried.train(deepcopy(model), *data, steps), share=TRIAL, few=8)
    fitting = sorted(trial() for _ in range(3))[1]  # a busy moment makes nonsense of one
    start_up = time.perf_counter() - began
    steps = max(1, int(fitting * (1 - start_up / seconds) * 0.98))
    history = tried.train(model, *data, steps)
    took = time.perf_counter() - began
    return Trained(history.ema, history.precision, tried.batch, steps, start_up, took, tried.size)


def train_lab3(on: torch.device, seconds: float, seed: int, *, resident: bool) -> Trained:
    """Train the network of the lab until the seconds are over, with labkit's batches if `resident`, else its own."""
    began = time.perf_counter()
    seed_everything(seed)
    model = LabThreeUNet().to(on)
    images, labels = mnist32("train")
    stream = batches(images.to(on), labels.to(on), BATCH) if resident else one_by_one(images, labels, on)
    start_up = time.perf_counter() - began
    steps = train_until(model, stream, began + seconds)
    return Trained(model, "float32", BATCH, steps, start_up, time.perf_counter() - began)


def as_they_are(x: Tensor) -> Tensor:
    """The images, unchanged."""
    return x


# How each generator is trained, and how its samples become images that the judge knows.
GENERATORS = {
    "labkit": (train_labkit, framed),
    "lab3": (partial(train_lab3, resident=False), unstretch),
    "lab3-resident": (partial(train_lab3, resident=True), as_they_are),
}


def figures(name: str, trained: Trained, judge: Judge, n: int, seed: int) -> dict:
    """All figures of one generator, with those of n real digits beside them, ready for json."""
    y, noise = balanced_labels(n, 10), seeded_noise(n, 1, trained.size, trained.size, seed=seed)
    restore = GENERATORS[name][1]

    def sample(w: float, y: Tensor) -> Tensor:
        return draw(trained.model, noise, y, w, steps=16)

    def measure(x: Tensor, y: Tensor) -> Quality:
        if not x.isfinite().all():  # a diverged model's samples are all wrong, and have no other figure
            return Quality(n, share(0, n))
        return judge.measure(restore(x), y)

    return {
        "name": name,
        "parameters": sum(p.numel() for p in trained.model.parameters()),
        **{key: value for key, value in trained._asdict().items() if key != "model"},
        "images_per_second": trained.images_per_second,
        "quality": {f"w={w:g}": quality.row() for w, quality in sweep(sample, measure, SCALES, y).items()},
        "real": real_quality(judge, n).row(),
    }


def column(row: dict) -> list[str]:
    """The figures of one generator as they are printed, in the order of `HEADINGS`."""
    plain, guided, real = (Quality.of_row(figures) for figures in (*row["quality"].values(), row["real"]))

    def beside_real(name: str) -> str:
        value = getattr(plain, name)
        none = value is None or (name == "frechet" and plain.accuracy.value < REACHED)
        return f"{'not reached' if none else format(value, '.2f')} ({getattr(real, name):.2f})"

    return [
        row["name"],
        f"{row['parameters']:,}",
        row["precision"],
        f"{row['steps']:,} of {row['batch']}",
        f"{row['images_per_second']:,.0f}",
        f"{row['seconds']:.1f} ({row['start_up']:.1f})",
        f"{plain.n:,}",
        str(plain.accuracy),
        str(guided.accuracy),
        *map(beside_real, ("frechet", "density", "coverage")),
    ]


HEADINGS = [
    "",
    "parameters",
    "precision",
    "steps, batch",
    "images per second",
    "seconds (start-up)",
    "samples judged, n",
    "accuracy w=1 (95%)",
    "accuracy w=3 (95%)",
    "Frechet w=1 (real)",
    "density w=1 (real)",
    "coverage w=1 (real)",
]


def main() -> None:
    """Train, judge and print; see the head of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300, help="training time of each generator (default 300)")
    parser.add_argument("--samples", type=int, default=1000, help="samples of labkit that are judged (default 1000)")
    parser.add_argument("--baseline-samples", type=int, default=200, help="the same for lab3 (default 200)")
    parser.add_argument("--only", action="append", choices=GENERATORS, help="train this one only; may be repeated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    asked = parser.parse_args()
    if asked.seconds <= 0 or min(asked.samples, asked.baseline_samples) < 10:
        parser.error("--seconds must be positive, and at least 10 samples are needed")

    on = device()
    judge = Judge.pretrained(device=on)  # before the training, so that the device has started
    test = judge.test_accuracy
    run = {"machine": machine(on), "asked_seconds": asked.seconds, "seed": asked.seed, "judge": test._asdict()}
    print(f"{run['machine']}; the judge is right on {test} of {test.n:,} real test digits")

    rows = []
    for name in asked.only or GENERATORS:
        print(f"{name}: training for {asked.seconds:g} s ...", flush=True)
        trained = GENERATORS[name][0](on, asked.seconds, asked.seed)
        n = asked.samples if name == "labkit" else asked.baseline_samples
        print(f"{name}: {trained.steps:,} steps in {trained.seconds:.1f} s, judging {n} samples ...", flush=True)
        rows.append(figures(name, trained, judge, n, asked.seed))
        if asked.json:
            asked.json.write_text(json.dumps(run | {"generators": {r["name"]: r for r in rows}}, indent=2))

    print()
    for line in zip(HEADINGS, *map(column, rows), strict=True):
        print(f"{line[0]:22s}" + "".join(f"{cell:>28s}" for cell in line[1:]))


if __name__ == "__main__":
    main()
