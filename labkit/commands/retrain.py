"""`python -m labkit retrain mnist-unet`: train a shipped model with the code of the lessons, and write its card."""

import subprocess
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from labkit.assets import FOLDER, Card
from labkit.data import batches, mnist32, to_float
from labkit.losses import cfm_loss, drop_labels
from labkit.nn.unet import UNet
from labkit.paths import GaussianPath
from labkit.pretrained import load_pretrained, save_pretrained
from labkit.runtime import device, machine, profile, seed_everything
from labkit.training import fit

RECIPES = {
    "mnist-unet": {
        "arguments": {"channels": 1, "num_classes": 10, "widths": (32, 64, 96), "blocks": 1, "patch": 2},
        "batch_size": 128,
        "steps": 20_000,
        "lr": 3e-3,
        "drop": 0.1,
    },
}


def retrain(
    name: str,
    *,
    steps: int | None = None,
    lr: float | None = None,
    seed: int = 0,
    checkpoint: Path | None = None,
    further: bool = False,
) -> Card:
    """Train the model `name` and write weights and card to the assets; resumes from `checkpoint` where that exists.

    `further=True` starts from the weights that ship rather than from scratch; the card then keeps what was before.
    The test loss on the card is the CFM loss on the 10,000 test images, on a fixed grid of times and with fixed noise.
    Raises ValueError for a name without a recipe.
    """
    if name not in RECIPES:
        raise ValueError(f"no recipe is called {name!r}; there are {', '.join(RECIPES)}")
    asked = {"steps": steps, "lr": lr}
    recipe = RECIPES[name] | {key: value for key, value in asked.items() if value is not None}
    seed_everything(seed)
    on = device()
    images, labels = (part.to(on) for part in mnist32("train"))
    model = UNet(**recipe["arguments"]).to(on)
    path = GaussianPath()
    null = recipe["arguments"]["num_classes"]
    before = {}
    if further:
        shipped, card = load_pretrained(name)
        model.load_state_dict(shipped.state_dict())
        before = {
            "started from": card.details["trained"] | {"revision": card.details["revision"], "sha256": card.sha256}
        }

    def loss_fn(model: nn.Module, z: Tensor, y: Tensor) -> Tensor:
        return cfm_loss(model, path, z, drop_labels(y, recipe["drop"], null))

    started, at = time.strftime("%Y-%m-%d"), revision()
    stream = batches(images, labels, recipe["batch_size"], torch.Generator().manual_seed(seed))
    resume = checkpoint if checkpoint is not None and checkpoint.is_file() else None
    history = fit(model, loss_fn, stream, steps=recipe["steps"], lr=recipe["lr"], checkpoint=checkpoint, resume=resume)
    tail = history.losses[-1000:]
    trained = {key: value for key, value in recipe.items() if key != "arguments"}
    details = {
        "model": {"class": "UNet", "arguments": recipe["arguments"]},
        "parameters": sum(p.numel() for p in model.parameters()),
        "trained": trained
        | {"seed": seed, "started": started, "seconds": round(history.seconds), "profile": profile(), "weights": "EMA"}
        | before,
        "machine": machine(on),
        "revision": at,
        "figures": {
            "train loss, mean of the last 1000 steps (raw weights)": round(sum(tail) / len(tail), 5),
            "test loss (EMA weights)": round(held_out_loss(history.ema, path), 5),
        },
    }
    card = Card(
        title="Class-conditional flow matching U-Net for MNIST 1x32x32, labels 0..9 and null 10",
        source=f"python -m labkit retrain {name}, on the 60,000 MNIST training images in labkit/assets/mnist.npz",
        licence="MIT; the training images are CC BY-SA 3.0 (Yann LeCun and Corinna Cortes)",
        details=details,
    )
    return save_pretrained(name, history.ema, card)


@torch.no_grad()
def held_out_loss(model: nn.Module, path: GaussianPath, chunk: int = 1000) -> float:
    """CFM loss with labels on the MNIST test images, at times on a fixed uniform grid and with noise from seed 0."""
    on = next(model.parameters()).device
    images, labels = mnist32("test")
    generator = torch.Generator().manual_seed(0)
    total = 0.0
    for z, y in zip(to_float(images).split(chunk), labels.split(chunk), strict=True):
        t = (torch.arange(len(z)) + 0.5) / len(z)
        eps = torch.randn(z.shape, generator=generator)
        total += cfm_loss(model, path, z.to(on), y.to(on), t=t.to(on), eps=eps.to(on)).item() * len(z)
    return total / len(images)


def revision() -> str:
    """The git revision of the code that runs, with a + where it has changes; "unknown" outside a checkout."""
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"], cwd=FOLDER, capture_output=True, text=True, check=True
        )
        return said.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
