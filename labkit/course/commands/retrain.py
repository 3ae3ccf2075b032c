"""`python -m labkit retrain NAME`: train a shipped model by its recipe, and write its weights and card."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from torch import nn

from labkit.base.files import FOLDER, Card, provenance, write_card
from labkit.base.runtime import device, profile, seed_everything
from labkit.data.images import mnist32
from labkit.data.stream import batches
from labkit.flow.paths import convert
from labkit.measure.held_out import count_wrong, held_out_loss
from labkit.training.cards import Details, Network, Training
from labkit.training.loop import History, fit, steps_within
from labkit.training.pretrained import load_network, save_pretrained
from labkit.training.recipes import RECIPES


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
    if steps is not None and seconds is not None:
        raise ValueError("give steps or seconds, not both")
    asked = {"steps": steps, "batch_size": batch_size, "lr": lr}
    recipe = replace(RECIPES[name], **{key: value for key, value in asked.items() if value is not None})
    on = device()
    graph = on.type == "cuda"
    images, labels = (part.to(on) for part in mnist32("train"))

    def train(steps: int, weights: dict | None = None, progress: bool = False, file: Path | None = None) -> History:
        generator = seed_everything(seed)
        network = recipe.network.build().to(on)
        if weights is not None:
            network.load_state_dict(weights)
        stream = batches(images, labels, recipe.batch_size, generator)
        saving = {"checkpoint": file, "resume": file if file is not None and file.is_file() else None}
        loss_fn = recipe.loss_fn()
        return fit(network, loss_fn, stream, steps=steps, lr=recipe.lr, graph=graph, progress=progress, **saving)

    if seconds is not None:
        recipe = replace(recipe, steps=steps_within(seconds, train, few=8 if graph else 2))
    weights, earlier = None, None
    if further:
        shipped, card = load_network(name)
        weights, earlier = shipped.state_dict(), replace(Details.of(card).trained, sha256=card.sha256)
    began = provenance(on)
    history = train(recipe.steps, weights, progress=True, file=checkpoint)

    settings = {key: getattr(recipe, key) for key in ("batch_size", "steps", "lr", "drop", "jitter")} | {"seed": seed}
    took = {"precision": history.precision, "seconds": round(history.seconds), "profile": profile()} | began
    loss = {"train loss, mean of the last 1000 steps (raw weights)": round(history.mean(1000), 5)}
    parameters = sum(p.numel() for p in history.ema.parameters())
    trained = Training(**settings, **took, started_from=earlier)
    figures = loss | held_out_figures(history.ema, recipe.network)
    source = f"python -m labkit retrain {name}, on the 60,000 MNIST training images in labkit/assets/mnist.npz"
    licence = "MIT; the training images are CC BY-SA 3.0 (Yann LeCun and Corinna Cortes)"
    details = Details(recipe.network, parameters, trained, figures).to_dict()
    return save_pretrained(name, history.ema, Card(recipe.title, source, licence, details), replace=True)


def held_out_figures(network: nn.Module, made: Network) -> dict[str, float]:
    """What a network scores on test images: on all of them, and, on the CPU in float32, on the first 1,000.

    The second figure is quick to take again, and the same on every machine up to rounding.
    """
    here = deepcopy(network).cpu()
    if made.predicts is None:
        whole, first = count_wrong(network), count_wrong(here, limit=1000)
        return {"wrong of the 10,000 test images": whole, "wrong of the first 1,000 test images": first}
    path = made.gaussian_path()
    whole = held_out_loss(convert(network, path, made.predicts), path)
    first = held_out_loss(convert(here, path, made.predicts), path, limit=1000)
    return {"test loss (EMA weights)": round(whole, 5), "test loss, first 1,000 images": round(first, 5)}


def renew_figures(name: str) -> Card:
    """Take the held-out figures of the weights that ship once more, and write them onto their card."""
    network, card = load_network(name)
    details = Details.of(card)
    details = replace(details, figures=details.figures | held_out_figures(network, details.model))
    return write_card(FOLDER / f"{name}.safetensors", replace(card, details=details.to_dict()))
