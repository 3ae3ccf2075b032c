"""`python -m labkit retrain NAME`: train a shipped model with the code of the lessons, and write its card."""

from pathlib import Path

import torch
from torch import nn

from labkit.base.files import Card
from labkit.base.provenance import provenance
from labkit.base.runtime import device, profile, seed_everything
from labkit.data.images import mnist32
from labkit.data.stream import batches
from labkit.flow.paths import GaussianPath
from labkit.measure.held_out import count_wrong, held_out_loss
from labkit.training.loop import History, fit, steps_within
from labkit.training.pretrained import ARCHITECTURES, load_pretrained, save_pretrained
from labkit.training.recipes import RECIPES, classification, flow


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
    drop = "drop" in trained
    loss_fn = (flow if drop else classification)(trained)

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
        | (
            {"test loss (EMA weights)": round(held_out_loss(history.ema, GaussianPath()), 5)}
            if drop
            else {"wrong of the 10,000 test images": count_wrong(history.ema)}
        ),
    }
    details |= began
    card = Card(
        title=recipe["title"],
        source=f"python -m labkit retrain {name}, on the 60,000 MNIST training images in labkit/assets/mnist.npz",
        licence="MIT; the training images are CC BY-SA 3.0 (Yann LeCun and Corinna Cortes)",
        details=details,
    )
    return save_pretrained(name, history.ema, card)
