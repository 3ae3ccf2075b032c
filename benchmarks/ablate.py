"""What each part of the U-Net lab is worth, measured by leaving it out: `python benchmarks/ablate.py`.

Every variant is trained alike from scratch, with each of the seeds, and judged at w=1 and w=3; the table
`mnist-unet-ablations` of the assets keeps it all.
"""

import argparse
import copy
import json
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from labkit.base.files import FOLDER, Card, provenance, write_table
from labkit.base.runtime import device, seed_everything, seeded_noise
from labkit.data import balanced_labels, batches, mnist32
from labkit.measure import Judge, draw, held_out_loss, sweep
from labkit.measure.samples import sampling_settings
from labkit.nn import UNet
from labkit.training import RECIPES, fit


def ablate(*, steps: int = 1_200, batch_size: int = 64, seeds: Iterable[int] = (0, 1), n: int = 1_000) -> Card:
    """Train, judge and write every variant; return the card of the table."""
    on = device()
    began, judge, recipe = provenance(on), Judge.pretrained(device=on), RECIPES["mnist-unet"]
    images, labels = (part.to(on) for part in mnist32("train"))
    y, noise = balanced_labels(n, 10), seeded_noise(n, 1, 32, 32)
    rows, precision, lr = [], "", 3e-3

    def report(variant: str, seed: int, model: nn.Module) -> None:
        loss = held_out_loss(model, recipe.network.gaussian_path())
        for w, quality in sweep(lambda w, y: draw(model, noise, y, w), judge.measure, (1.0, 3.0), y).items():
            rows.append({"variant": variant, "seed": seed, "loss": loss, "w": w} | quality.row())
            print(f"{variant}, seed {seed}, loss {loss:.4f}, w={w:g}: {quality}", flush=True)

    for seed in seeds:
        for variant, change in {
            "as in the lesson": lambda model: None,
            "BatchNorm for GroupNorm": use_batch_norm,
            "no full-resolution skip": cut_full_resolution_skip,
        }.items():
            seed_everything(seed)
            model = recipe.network.build()
            change(model)
            stream = batches(images, labels, batch_size, torch.Generator().manual_seed(seed))
            history = fit(model.to(on), recipe.loss_fn(), stream, steps=steps, lr=lr)
            precision = history.precision
            report(variant, seed, history.ema)
            if variant == "as in the lesson":
                report("last weights for EMA", seed, copy.deepcopy(model))

    about = {"steps": steps, "batch_size": batch_size, "lr": lr, "precision": precision}
    details = began | about | {"sampling": sampling_settings()}
    card = Card("The U-Net lab with one part left out", "python benchmarks/ablate.py", "MIT", details)
    return write_table(FOLDER / "mnist-unet-ablations.csv", rows, card)


def use_batch_norm(model: nn.Module) -> None:
    """Replace every GroupNorm of a network by BatchNorm, in place."""
    for name, child in model.named_children():
        if isinstance(child, nn.GroupNorm):
            setattr(model, name, nn.BatchNorm2d(child.num_channels))
        use_batch_norm(child)


def cut_full_resolution_skip(model: UNet) -> None:
    """Let zeros come to the head in place of the stem's output, in place."""
    model.head_norm = nn.Sequential(_FirstHalf(), model.head_norm)


class _FirstHalf(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        kept = h[:, : h.shape[1] // 2]
        return torch.cat((kept, torch.zeros_like(kept)), dim=1)


def main() -> None:
    """Train, judge and write; see the head of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_200, help="optimiser steps of each training (default 1200)")
    parser.add_argument("--samples", type=int, default=1_000, help="samples judged at each scale (default 1000)")
    asked = parser.parse_args()
    print(json.dumps(ablate(steps=asked.steps, n=asked.samples).details, indent=2))


if __name__ == "__main__":
    main()
