"""What the card of a model says, in one schema for whoever writes and whoever reads it."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from torch import nn

from labkit.base.files import Card
from labkit.base.inputs import takes
from labkit.flow.paths import GaussianPath
from labkit.flow.schedules import Cosine, Linear, SquareRoot, Table
from labkit.nn.convnet import ConvNet, ResNet
from labkit.nn.dit import DiT
from labkit.nn.mlp import MLP
from labkit.nn.noisy import NoisyClassifier
from labkit.nn.unet import UNet

ARCHITECTURES = {
    "ConvNet": ConvNet, "DiT": DiT, "MLP": MLP, "NoisyClassifier": NoisyClassifier, "ResNet": ResNet, "UNet": UNet,
}  # fmt: skip
SCHEDULES = {"linear": Linear, "square root": SquareRoot, "cosine": Cosine, "ddpm": Table}
SPELLED = {"kind": "class", "started_from": "started from"}  # keys on a card that are no names in Python


@dataclass(frozen=True)
class Network:
    """How a network is built, `kind` a key of ARCHITECTURES; what it predicts (velocity, score, eps or z), and on which
    path, a key of SCHEDULES. A classifier has neither prediction nor path.
    """

    kind: str
    arguments: dict[str, Any]
    predicts: str | None = None
    path: str | None = None

    def build(self) -> nn.Module:
        """The network, untrained. Raises ValueError if the description is none of a network."""
        try:
            return ARCHITECTURES[self.kind](**self.arguments)
        except (KeyError, TypeError) as error:
            raise ValueError(f"no network can be built of {self.kind!r} and {self.arguments}: {error!r}") from error

    def gaussian_path(self) -> GaussianPath:
        """The path that it was trained on. Raises ValueError for a name that is no schedule's."""
        if self.path not in SCHEDULES:
            raise ValueError(f"path must be one of {', '.join(SCHEDULES)}; got {self.path!r}")
        return GaussianPath(SCHEDULES[self.path]())


@dataclass(frozen=True)
class Training:
    """One training: what was asked for, what it took (`precision` in forward passes, `seconds` in the loop, the day it
    `started`), and which earlier one it started from (None: random weights), with the `sha256` of what came of that.
    """

    batch_size: int
    steps: int
    lr: float
    seed: int
    drop: float | None = None
    jitter: float | None = None
    precision: str | None = None
    weights: str = "EMA"
    seconds: int | None = None
    profile: str | None = None
    started: str | None = None
    machine: str | None = None
    revision: str | None = None
    sha256: str | None = None
    started_from: "Training | None" = None


@dataclass(frozen=True)
class Details:
    """What a model's card says beside title, source and licence: `figures` by the measure of its own training, and what
    judges `measured`.
    """

    model: Network
    parameters: int
    trained: Training
    figures: dict[str, float]
    measured: dict[str, Any] | None = None

    @classmethod
    def of(cls, card: Card) -> "Details":
        """Read a card. Raises ValueError if it is none of a model, naming what is unknown or missing."""
        return _read(cls, card.details, card)

    def to_dict(self) -> dict[str, Any]:
        """What goes on a card as its `details`."""
        return asdict(self, dict_factory=lambda pairs: {SPELLED.get(k, k): v for k, v in pairs if v is not None})


def network_of(card: Card) -> Network:
    """How the network of a card is made. Raises ValueError if the card does not say."""
    if "model" not in card.details:
        raise ValueError(f"the card of {card.title!r} describes no model")
    return _read(Network, card.details["model"], card)


@takes()
def images_seen(card: Card) -> int:
    """How many images a model was trained on, a repeated one counted again, over all the trainings on its card."""
    seen, trained = 0, Details.of(card).trained
    while trained is not None:
        seen, trained = seen + trained.steps * trained.batch_size, trained.started_from
    return seen


def _read(kind: type, values: dict[str, Any], card: Card) -> Any:  # noqa: ANN401 - a `kind`
    names = {SPELLED.get(f.name, f.name): f.name for f in fields(kind)}
    inner = {"model": Network, "trained": Training, "started from": Training}
    try:
        return kind(**{names[key]: _read(inner[key], v, card) if key in inner else v for key, v in values.items()})
    except (KeyError, TypeError) as error:
        raise ValueError(f"the card of {card.title!r} has no good {kind.__name__.lower()}: {error}") from error
