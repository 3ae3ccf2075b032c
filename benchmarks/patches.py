"""`python -m labkit patches`: transformers with patches of 2, 4 and 8 and the U-Net, each trained for equally long.

What fits into the time is measured first, on networks that are thrown away, so that every learning rate ends at 0.
The U-Net is then trained once more, with as many operations as the best of the transformers took. All are judged at w=1
and w=3; the table `mnist-dit-patches` keeps it all.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from labkit.base.files import FOLDER, Card, write_table
from labkit.base.provenance import provenance
from labkit.base.runtime import autocast, device, half_precision, seed_everything
from labkit.course.commands.measure import rounded, settings
from labkit.data.images import balanced_labels, mnist32
from labkit.data.stream import batches
from labkit.flow.paths import GaussianPath
from labkit.measure.held_out import held_out_loss
from labkit.measure.judge import CLASSES, Judge
from labkit.measure.samples import draw_images
from labkit.nn.dit import DiT
from labkit.nn.trace import flop_count
from labkit.nn.unet import UNet
from labkit.training.loop import History, fit, steps_within
from labkit.training.recipes import RECIPES, flow

PATCHES = (2, 4, 8)


def patches(
    *,
    seconds: float = 150.0,
    n: int = 500,
    batch_size: int = 64,
    lr: float = 3e-3,
    seed: int = 0,
    solver_steps: int = 10,
) -> Card:
    """Train every variant for `seconds`, judge n of its samples, write the table and return its card."""
    on = device()
    began, judge, path = provenance(on), Judge.pretrained(device=on), GaussianPath()
    images, labels = (part.to(on) for part in mnist32("train"))
    trained = RECIPES["mnist-dit"]["trained"]
    loss_fn = flow(trained)
    y, half, rows = balanced_labels(n, CLASSES), half_precision(on, heavy=True), []

    def train(build: Callable[[], nn.Module], steps: int, progress: bool = False) -> History:
        seed_everything(seed)
        model = build().to(on)
        stream = batches(images, labels, batch_size, torch.Generator().manual_seed(seed))
        return fit(model, loss_fn, stream, steps=steps, lr=lr, progress=progress)

    def tabulate(variant: str, build: Callable[[], nn.Module], steps: int) -> None:
        history = train(build, steps, progress=True)
        model = history.ema
        with autocast(on, half):
            loss = held_out_loss(model, path)
        about = {
            "variant": variant,
            "patch": model.patch,
            "tokens": len(model.positions) if isinstance(model, DiT) else 0,
            "parameters": sum(p.numel() for p in model.parameters()),
            "mflop": forward_flop(model) / 1e6,
            "steps": steps,
            "images": steps * batch_size,
            "seconds": history.seconds,
            "precision": history.precision,
            "loss": loss,
        }
        for w in (1.0, 3.0):
            x = draw_images(model, y, w, steps=solver_steps, half=True, chunk=100)
            rows.append(about | {"w": w} | judge.measure(x, y)._asdict())
            print(rounded(rows[-1]), flush=True)

    for variant, build in variants().items():
        tabulate(variant, build, steps_within(seconds, partial(train, build)))
    best = min((row for row in rows if row["tokens"]), key=lambda row: row["loss"])
    unet = next(row for row in rows if not row["tokens"])
    equal_work = round(best["steps"] * best["mflop"] / unet["mflop"])
    tabulate("U-Net, equal work", variants()["U-Net"], equal_work)

    details = began | {
        "seconds of training": seconds,
        "equal work": f"as many operations as {best['variant']}",
        "batch_size": batch_size,
        "lr": lr,
        "drop": trained["drop"],
        "seed": seed,
        "precision": {
            "training": " and ".join(sorted({row["precision"] for row in rows})),
            "sampling and loss": str(half or torch.float32).removeprefix("torch."),
        },
        "sampling": settings(solver_steps),
    }
    source = f"python -m labkit patches --seconds {seconds:g} --n {n}"
    card = Card("Transformers by size of patch, and the U-Net, trained for equally long", source, "MIT", details)
    return write_table(FOLDER / "mnist-dit-patches.csv", rows, card)


def variants() -> dict[str, Callable[[], nn.Module]]:
    """What builds each of the networks, untrained: the recipes', but for the size of the transformer's patches."""
    dit, unet = (RECIPES[name]["model"]["arguments"] for name in ("mnist-dit", "mnist-unet"))
    found: dict[str, Callable[[], nn.Module]] = {
        f"DiT, patch {patch}": partial(DiT, **dit | {"patch": patch}) for patch in PATCHES
    }
    return found | {"U-Net": partial(UNet, **unet)}


def forward_flop(model: nn.Module) -> int:
    """Floating-point operations of one evaluation of one image."""
    on = next(model.parameters()).device
    x, t = torch.zeros(1, model.channels, 32, 32, device=on), torch.zeros(1, device=on)
    return flop_count(model, x, t, torch.zeros(1, dtype=torch.int64, device=on))
