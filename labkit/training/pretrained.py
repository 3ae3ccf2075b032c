"""Models that ship: `model, card = load_pretrained("mnist-unet")`."""

from pathlib import Path

import torch
from torch import nn

from labkit.base.files import FOLDER, Card, read_weights, write_weights
from labkit.base.inputs import takes
from labkit.base.runtime import present
from labkit.flow.paths import convert
from labkit.training.cards import network_of


def names() -> list[str]:
    """The names that `load_pretrained` knows."""
    return sorted(path.name.removesuffix(".safetensors") for path in FOLDER.glob("*.safetensors"))


def load_pretrained(name: str, device: torch.device | str | None = None) -> tuple[nn.Module, Card]:
    """Load a shipped model, frozen and in eval mode: `(model with its averaged weights, card)`.

    A generator gives the velocity, whatever its network predicts. `labkit.training.Details.of(card)` says what that is,
    how it was trained and what it scored. `device` defaults to the CPU.
    Raises ValueError for a name that does not ship, and for a damaged or foreign weights file.
    """
    network, card = load_network(name, device)
    made = network_of(card)
    if made.predicts in (None, "velocity"):
        return network, card
    return convert(network, made.gaussian_path(), made.predicts, "velocity").eval(), card


@takes()
def load_network(name: str, device: torch.device | str | None = None) -> tuple[nn.Module, Card]:
    """`load_pretrained`, but the network as it was trained, which may predict something else than the velocity."""
    if name not in names():
        raise ValueError(f"no pretrained model is called {name!r}; there are {', '.join(names()) or 'none'}")
    state_dict, card = read_weights(FOLDER / f"{name}.safetensors")
    try:
        network = network_of(card).build()
        network.load_state_dict(state_dict)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{name}.safetensors does not hold the model that its card describes: {error}") from error
    if not all(weight.isfinite().all() for weight in network.parameters()):
        raise ValueError(f"{name}.safetensors holds weights that are inf or NaN")
    return network.to(present(device or "cpu")).eval().requires_grad_(False), card


@takes()
def save_pretrained(name: str, network: nn.Module, card: Card, *, replace: bool = False) -> Card:
    """Write a network's weights and card into the assets; over others of that name only to `replace` them.

    Raises ValueError, before that, for a name that is taken or leads out of the folder, and if `card.details["model"]`,
    a `cards.Network`, does not describe the network.
    """
    if not name or Path(name).name != name or name.startswith("."):
        raise ValueError(f"name must be that of a file, without a folder; got {name!r}")
    if name in names() and not replace:
        raise ValueError(f"name {name!r} is that of a model that ships: choose another, or say replace=True")
    network = getattr(network, "_orig_mod", network)  # of a compiled one
    try:
        network_of(card).build().load_state_dict(network.state_dict())
    except RuntimeError as error:
        raise ValueError(f"the card does not describe this model: {error}") from error
    return write_weights(FOLDER / f"{name}.safetensors", network.state_dict(), card)
