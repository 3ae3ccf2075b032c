"""Recipes against each other at equal seconds: `python benchmarks/screen.py --seconds 30 small-512 wide-512 ...`.

Each recipe below trains a U-Net from scratch for as many steps as a short trial says will fit into the seconds (the
trial is not counted), and is judged at w=1 and w=3 by both judges on the same noise. The held-out loss, on a fixed
uniform grid of times, is what recipes are chosen by; the judges only say what that bought.
"""

import argparse
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from labkit.base import device, machine, seed_everything, seeded_noise
from labkit.data import balanced_labels, batches, mnist32
from labkit.flow import GaussianPath
from labkit.measure import Judge, draw, held_out_loss, real_quality
from labkit.nn import UNet
from labkit.training import History, fit, flow_loss, steps_within


@dataclass(frozen=True)
class Tried:
    """A U-Net and how it is trained."""

    widths: tuple[int, ...] = (32, 64, 96)
    batch: int = 512
    lr: float = 3e-3
    patch: int = 2
    blocks: int = 1


WIDE = (64, 128, 192)
RECIPES = {
    "small-512": Tried(),
    "small-512-fast": Tried(lr=6e-3),
    "small-256": Tried(batch=256),
    "wide-256": Tried(WIDE, 256),
    "wide-512": Tried(WIDE, 512),
    "wide-512-slow": Tried(WIDE, 512, 1.5e-3),
    "two-levels-512": Tried((64, 128), 512),
    "wider-512": Tried((96, 192, 256), 512, 2e-3),
    "pixels-256": Tried(WIDE, 256, 2e-3, patch=1),
}


def main() -> None:
    """Train, judge and print; see the head of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help=f"of {', '.join(RECIPES)} (default: all)")
    parser.add_argument("--seconds", type=float, default=30, help="training time of each recipe (default 30)")
    parser.add_argument("--samples", type=int, default=10_000, help="samples judged at each scale (default 10000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    asked = parser.parse_args()

    on = device()
    judge, second = Judge.pretrained(device=on), Judge.pretrained("mnist-judge-2", on)
    images, labels = (part.to(on) for part in mnist32("train"))
    y, noise = balanced_labels(asked.samples, 10), seeded_noise(asked.samples, 1, 32, 32)
    print(f"{machine(on)}; n={asked.samples:,}; real digits: {real_quality(judge, asked.samples)}", flush=True)

    def train(tried: Tried, steps: int) -> History:
        seed_everything(asked.seed)
        model = UNet(1, 10, widths=tried.widths, patch=tried.patch, blocks=tried.blocks).to(on)
        stream = batches(images, labels, tried.batch)
        return fit(model, flow_loss(drop=0.1), stream, steps=steps, lr=tried.lr, graph=True, progress=False)

    rows = []
    for name in asked.recipes or RECIPES:
        tried = RECIPES[name]
        history = train(tried, steps_within(asked.seconds, partial(train, tried), few=8))
        model, seen = history.ema, history.steps * tried.batch
        row = vars(tried) | {
            "name": name,
            "parameters": sum(p.numel() for p in model.parameters()),
            "precision": history.precision,
            "steps": history.steps,
            "seconds": history.seconds,
            "images_per_second": seen / history.seconds,
            "loss": held_out_loss(model, GaussianPath()),
        }
        print(
            f"{name}: {row['parameters']:,} weights, {history.steps:,} steps of {tried.batch} in "
            f"{history.seconds:.1f} s, {row['images_per_second']:,.0f} images/s, held-out loss {row['loss']:.5f}",
            flush=True,
        )
        for w in (1.0, 3.0):
            x = draw(model, noise, y, w)
            quality, confirmed = judge.measure(x, y), second.accuracy(x, y)
            row[f"w={w:g}"] = quality.row() | {"second judge": confirmed._asdict()}
            print(f"  w={w:g}: {quality}; second judge {confirmed}", flush=True)
        rows.append(row)
        if asked.json:
            asked.json.write_text(
                json.dumps({"machine": machine(on), "seconds": asked.seconds, "rows": rows}, indent=2)
            )


if __name__ == "__main__":
    main()
