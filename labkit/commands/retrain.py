"""`python -m labkit retrain NAME`: train a shipped model with the code of the lessons, and write its card."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

from labkit.assets import Card
from labkit.commands.provenance import provenance
from labkit.data import batches, mnist32, to_float
from labkit.losses import cfm_loss, drop_labels
from labkit.paths import GaussianPath
from labkit.pretrained import ARCHITECTURES, load_pretrained, save_pretrained
from labkit.runtime import device, profile, seed_everything
from labkit.training import History, LossFn, fit, steps_within

RECIPES = {
    "mnist-unet": {
        "title": "Class-conditional flow matching U-Net for MNIST 1x32x32, labels 0..9 and null 10",
        "model": {
            "class": "UNet",
            "arguments": {"channels": 1, "num_classes": 10, "widths": (32, 64, 96), "blocks": 1, "patch": 2},
        },
        "trained": {"batch_size": 128, "steps": 20_000, "lr": 3e-3, "drop": 0.1},
    },
    "mnist-unet-weak": {
        "title": "A smaller U-Net for the same task, stopped early: the worse model of autoguidance",
        "model": {"class": "UNet", "arguments": {"channels": 1, "num_classes": 10, "widths": (16, 32, 48), "patch": 2}},
        "trained": {"batch_size": 64, "steps": 1_500, "lr": 3e-3, "drop": 0.1},
    },
    "mnist-dit": {
        "title": "Class-conditional flow matching transformer for MNIST 1x32x32, labels 0..9 and null 10",
        "model": {
            "class": "DiT",
            "arguments": {"channels": 1, "num_classes": 10, "patch": 4, "width": 128, "depth": 4, "heads": 4},
        },
        "trained": {"batch_size": 64, "steps": 5_600, "lr": 3e-3, "drop": 0.1},
    },
    "mnist-judge": {
        "title": "Classifier of MNIST digits 1x32x32: the judge of the course's measurements",
        "model": {"class": "ConvNet", "arguments": {"widths": (24, 48, 96), "dim": 128}},
        "trained": {"batch_size": 128, "steps": 4_000, "lr": 3e-3, "jitter": 0.15},
    },
    "mnist-judge-2": {
        "title": "Classifier of MNIST digits 1x32x32 of another architecture: the second opinion",
        "model": {"class": "ResNet", "arguments": {"widths": (24, 48, 96)}},
        "trained": {"batch_size": 128, "steps": 4_000, "lr": 3e-3, "jitter": 0.15},
    },
}


def retrain(
    name: str,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int = 0,
    checkpoint: Path | None = None,
    further: bool = False,
) -> Card:
    """Train the model `name` and write weights and card to the assets; resumes from `checkpoint` where that exists.

    `further=True` starts from the weights that ship rather than from scratch; the card then keeps what was before.
    `seconds` instead of `steps` takes as many steps as a short trial, which is thrown away, says will fit into them.
    Raises ValueError for a name without a recipe, and for both `steps` and `seconds`.
    """
    if name not in RECIPES:
        raise ValueError(f"no recipe is called {name!r}; there are {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    if steps is not None and seconds is not None:
        raise ValueError("give steps or seconds, not both")
    asked = {"batch_size": batch_size, "steps": steps, "lr": lr, "seed": seed}
    trained = recipe["trained"] | {key: value for key, value in asked.items() if value is not None}
    on = device()
    images, labels = (part.to(on) for part in mnist32("train"))
    loss_fn, figures = (flow if "drop" in trained else classification)(trained)

    def start() -> tuple[nn.Module, batches]:
        seed_everything(seed)
        model = ARCHITECTURES[recipe["model"]["class"]](**recipe["model"]["arguments"]).to(on)
        return model, batches(images, labels, trained["batch_size"], torch.Generator().manual_seed(seed))

    def trial(steps: int) -> History:
        model, stream = start()
        return fit(model, loss_fn, stream, steps=steps, lr=trained["lr"], progress=False)

    if seconds is not None:
        trained["steps"] = steps_within(seconds, trial)
    model, stream = start()
    if further:
        shipped, card = load_pretrained(name)
        model.load_state_dict(shipped.state_dict())
        trained |= {"from": card.details["trained"] | {"revision": card.details["revision"], "sha256": card.sha256}}

    began = provenance(on)
    resume = checkpoint if checkpoint is not None and checkpoint.is_file() else None
    steps, lr = trained["steps"], trained["lr"]
    history = fit(model, loss_fn, stream, steps=steps, lr=lr, checkpoint=checkpoint, resume=resume)

    tail = history.losses[-1000:]
    details = {
        "model": recipe["model"],
        "parameters": sum(p.numel() for p in model.parameters()),
        "trained": trained
        | {"precision": history.precision, "weights": "EMA"}
        | {"seconds": round(history.seconds), "profile": profile()},
        "figures": {"train loss, mean of the last 1000 steps (raw weights)": round(sum(tail) / len(tail), 5)}
        | figures(history.ema),
    }
    details |= began
    card = Card(
        title=recipe["title"],
        source=f"python -m labkit retrain {name}, on the 60,000 MNIST training images in labkit/assets/mnist.npz",
        licence="MIT; the training images are CC BY-SA 3.0 (Yann LeCun and Corinna Cortes)",
        details=details,
    )
    return save_pretrained(name, history.ema, card)


def flow(trained: dict) -> tuple[LossFn, Callable[[nn.Module], dict]]:
    """Loss and final figures of a class-conditional field."""
    path = GaussianPath()

    def loss_fn(model: nn.Module, z: Tensor, y: Tensor) -> Tensor:
        return cfm_loss(model, path, z, drop_labels(y, trained["drop"], model.num_classes))

    return loss_fn, lambda model: {"test loss (EMA weights)": round(held_out_loss(model, path), 5)}


def classification(trained: dict) -> tuple[LossFn, Callable[[nn.Module], dict]]:
    """Loss and final figures of a classifier."""

    def loss_fn(model: nn.Module, z: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(model(jitter(z, trained["jitter"])), y)

    return loss_fn, lambda model: {"wrong of the 10,000 test images": count_wrong(model)}


def jitter(z: Tensor, amount: float) -> Tensor:
    """Turn, stretch and shift each image (B, 1, H, W) at random: angle in radians, factors and half widths `amount`."""
    u = (2 * torch.rand(4, len(z), device=z.device) - 1) * amount
    cos, sin = (1 + u[1]) * u[0].cos(), (1 + u[1]) * u[0].sin()
    rows = torch.stack((torch.stack((cos, -sin, u[2]), 1), torch.stack((sin, cos, u[3]), 1)), 1)  # (B, 2, 3)
    # What comes in at the border is 0, so the background is moved there and back.
    return grid_sample(z + 1, affine_grid(rows, list(z.shape), align_corners=False), align_corners=False) - 1


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


@torch.no_grad()
def count_wrong(model: nn.Module, chunk: int = 1000) -> int:
    """How many of the 10,000 MNIST test images a classifier gets wrong."""
    on = next(model.parameters()).device
    parts = zip(*(part.split(chunk) for part in mnist32("test")), strict=True)
    return sum((model(to_float(z.to(on))).argmax(1) != y.to(on)).sum().item() for z, y in parts)
