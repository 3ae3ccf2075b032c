"""Recipes against each other at equal seconds: `python benchmarks/screen.py --seconds 30 small-512 wide-512 ...`.

Each recipe below trains a U-Net from scratch for as many steps as a short trial says will fit into the seconds (the
trial is not counted), and is judged at w=1 and w=3 by both judges on the same noise. The held-out loss, on a fixed
uniform grid of times and over the 28x28 pixels inside the border, is what recipes are chosen by; the judges only say
what that bought. A recipe of size 28 never sees the border of background: it is put around the finished samples.
"""

import argparse
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from labkit.base import device, machine, seed_everything, seeded_noise
from labkit.data import Labelled, balanced_labels, batches, mnist32, to_float
from labkit.flow import GaussianPath
from labkit.measure import Judge, draw, real_quality
from labkit.nn import UNet
from labkit.training import History, fit, flow_loss, steps_within

WIDE = (64, 128, 192)
BORDER = 2  # pixels of background around each of MNIST's 28x28


@dataclass(frozen=True)
class Tried:
    """A U-Net and how it is trained."""

    widths: tuple[int, ...] = (32, 64, 96)
    batch: int = 512
    lr: float = 3e-3
    patch: int = 2
    blocks: int = 1
    muon: float | None = None
    size: int = 32

    def inside(self, images: Tensor) -> Tensor:
        """Images of 32x32 as this recipe sees them."""
        return images if self.size == 32 else images[:, :, BORDER:-BORDER, BORDER:-BORDER].contiguous()

    def network(self) -> UNet:
        """The network, new."""
        return UNet(1, 10, widths=self.widths, patch=self.patch, blocks=self.blocks)

    def train(self, model: UNet, images: Tensor, labels: Tensor, steps: int) -> History:
        """Train it on images of 32x32 that lie on its device."""
        stream, how = batches(self.inside(images), labels, self.batch), {"lr": self.lr, "muon": self.muon}
        return fit(model, flow_loss(drop=0.1), stream, steps=steps, graph=True, progress=False, **how)


RECIPES = {
    "small-512": Tried(),
    "small-512-fast": Tried(lr=6e-3),
    "small-256": Tried(batch=256),
    "wide-256": Tried(WIDE, 256),
    "wide-512": Tried(WIDE, 512),
    "wide-512-muon": Tried(WIDE, 512, muon=0.02),
    "wide-512-slow": Tried(WIDE, 512, 1.5e-3),
    "two-levels-512": Tried((64, 128), 512),
    "wider-512": Tried((96, 192, 256), 512, 2e-3),
    "pixels-256": Tried(WIDE, 256, 2e-3, patch=1),
    "cpu-before": Tried(batch=64),
    "cpu-32": Tried(batch=32),
    "cpu-fast": Tried(batch=64, lr=6e-3),
    "cpu-muon": Tried(batch=64, muon=0.02),
    "cpu-muon-two-levels": Tried((32, 64), 64, muon=0.02),
    "cpu-two-levels-28": Tried((32, 64), 64, size=28),
    "cpu-muon-28": Tried((32, 64), 64, muon=0.02, size=28),
    "cpu-muon-28-wide": Tried((48, 64), 64, muon=0.02, size=28),
    "cpu-muon-28-wider": Tried((48, 96), 64, muon=0.02, size=28),
}


def framed(x: Tensor) -> Tensor:
    """Samples as the judges see them: clipped, and 32x32 with a border of background."""
    return pad(x.clamp(-1, 1), [(32 - x.shape[3]) // 2] * 4, value=-1.0)


@torch.no_grad()
def inner_loss(model: nn.Module, tried: Tried, data: Labelled, limit: int = 2_000, chunk: int = 250) -> float:
    """Mean of |v - u(x_t)|^2 over the pixels inside the border of test images, at uniform times, from fixed noise."""
    on, total = next(model.parameters()).device, 0.0
    for start in range(0, limit, chunk):
        rows = slice(start, start + chunk)
        z, y, eps = to_float(data.images[rows]), data.labels[rows], seeded_noise(chunk, 1, 32, 32, seed=start)
        t = (torch.arange(chunk) + 0.5) / chunk
        x_t, v_t, _ = GaussianPath().sample(z, t, eps)
        error = model(*(part.to(on) for part in (tried.inside(x_t), t, y))).cpu() - tried.inside(v_t)
        total += (error if tried.size == 28 else Tried(size=28).inside(error)).square().mean().item()
    return total / (limit / chunk)


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
    y = balanced_labels(asked.samples, 10)
    print(f"{machine(on)}; n={asked.samples:,}; real digits: {real_quality(judge, asked.samples)}", flush=True)

    def train(tried: Tried, steps: int) -> History:
        seed_everything(asked.seed)
        return tried.train(tried.network().to(on), images, labels, steps)

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
            "loss": inner_loss(model, tried, mnist32("test")),
        }
        print(
            f"{name}: {row['parameters']:,} weights, {history.steps:,} steps of {tried.batch} in "
            f"{history.seconds:.1f} s, {row['images_per_second']:,.0f} images/s, held-out loss {row['loss']:.5f}",
            flush=True,
        )
        for w in (1.0, 3.0):
            noise = seeded_noise(len(y), 1, tried.size, tried.size)
            x = draw(model, noise, y, w, decode=framed)
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
