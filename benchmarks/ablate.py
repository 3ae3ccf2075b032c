"""`python -m labkit ablate`: what each part of the U-Net lab is worth, measured by leaving it out.

Every variant is trained alike from scratch, with each of the seeds, and judged at w=1 and w=3; the table
`mnist-unet-ablations` keeps it all.
"""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from labkit.base.files import FOLDER, Card, write_table
from labkit.base.provenance import provenance
from labkit.base.runtime import device, seed_everything
from labkit.data.images import mnist32
from labkit.data.stream import batches
from labkit.flow.paths import GaussianPath
from labkit.measure.held_out import held_out_loss
from labkit.measure.judge import Judge
from labkit.measure.sweeps import guidance_sweep
from labkit.nn.unet import UNet
from labkit.training.loop import fit
from labkit.training.recipes import RECIPES, flow


def ablate(*, steps: int = 1_200, batch_size: int = 64, seeds: Iterable[int] = (0, 1), n: int = 1_000) -> Card:
    """Train, judge and write every variant; return the card of the table."""
    on = device()
    began, judge, path = provenance(on), Judge.pretrained(device=on), GaussianPath()
    images, labels = (part.to(on) for part in mnist32("train"))
    loss_fn = flow(RECIPES["mnist-unet"]["trained"])
    rows, precision = [], ""

    def report(variant: str, seed: int, model: nn.Module) -> None:
        loss = held_out_loss(model, path)
        for w, quality in guidance_sweep(model, judge, (1.0, 3.0), n, steps=10).items():
            rows.append({"variant": variant, "seed": seed, "loss": loss, "w": w} | quality._asdict())
            print(rows[-1])

    for seed in seeds:
        for variant, change in {
            "as in the lesson": lambda model: None,
            "BatchNorm for GroupNorm": use_batch_norm,
            "no full-resolution skip": cut_full_resolution_skip,
        }.items():
            seed_everything(seed)
            model = UNet(**RECIPES["mnist-unet"]["model"]["arguments"])
            change(model)
            stream = batches(images, labels, batch_size, torch.Generator().manual_seed(seed))
            history = fit(model.to(on), loss_fn, stream, steps=steps, lr=3e-3)
            precision = history.precision
            report(variant, seed, history.ema)
            if variant == "as in the lesson":
                report("last weights for EMA", seed, copy.deepcopy(model))

    details = began | {
        "steps": steps,
        "batch_size": batch_size,
        "lr": 3e-3,
        "precision": precision,
        "sampling": "midpoint, 10 steps",
    }
    card = Card("The U-Net lab with one part left out", "python -m labkit ablate", "MIT", details)
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
