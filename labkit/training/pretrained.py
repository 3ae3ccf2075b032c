"""Models that ship: `model, card = load_pretrained("mnist-unet")`."""

import torch
from torch import nn

from labkit.base.files import FOLDER, Card, read_weights, write_weights
from labkit.nn.convnet import ConvNet, ResNet
from labkit.nn.dit import DiT
from labkit.nn.mlp import MLP
from labkit.nn.unet import UNet

ARCHITECTURES = {"ConvNet": ConvNet, "DiT": DiT, "MLP": MLP, "ResNet": ResNet, "UNet": UNet}


def names() -> list[str]:
    """The names that `load_pretrained` knows."""
    return sorted(path.name.removesuffix(".safetensors") for path in FOLDER.glob("*.safetensors"))


def load_pretrained(name: str, device: torch.device | str | None = None) -> tuple[nn.Module, Card]:
    """Load a shipped model: `(model in eval mode with its averaged weights, card)`.

    The card's details say how it was trained and what it scored. `device` defaults to the CPU.
    Raises ValueError for a name that does not ship, and for a damaged or foreign weights file.
    """
    if name not in names():
        raise ValueError(f"no pretrained model is called {name!r}; there are {', '.join(names()) or 'none'}")
    state_dict, card = read_weights(FOLDER / f"{name}.safetensors")
    try:
        model = build(card)
        model.load_state_dict(state_dict)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{name}.safetensors does not hold the model that its card describes: {error}") from error
    return model.to(device).eval().requires_grad_(False), card


def save_pretrained(name: str, model: nn.Module, card: Card) -> Card:
    """Write a model's weights and card into the assets. `card.details["model"]` describes it, see `build`.

    Raises ValueError, before anything is written, if the weights do not fit what the card describes.
    """
    try:
        build(card).load_state_dict(model.state_dict())
    except RuntimeError as error:
        raise ValueError(f"the card does not describe this model: {error}") from error
    return write_weights(FOLDER / f"{name}.safetensors", model.state_dict(), card)


def build(card: Card) -> nn.Module:
    """The untrained model that a card describes: `details["model"] = {"class": "UNet", "arguments": {...}}`.

    Raises ValueError if it describes none.
    """
    try:
        description = card.details["model"]
        return ARCHITECTURES[description["class"]](**description["arguments"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"the card of {card.title!r} describes no model that can be built: {error!r}") from error
