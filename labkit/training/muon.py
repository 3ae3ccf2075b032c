"""Muon, an optimiser for the matrices inside a network: every direction of a step is taken equally far.

Adam makes the numbers of a gradient equally large; Muon its singular values. Most of a gradient's length lies in a few
directions, and the many small ones, which are learned late by gradient length alone, are learned at once.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from labkit.base.inputs import number, takes

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
SMALLEST = 16  # a matrix with fewer rows or columns has too few directions to make them equal


class Muon(torch.optim.Optimizer):
    """W <- (1 - lr weight_decay) W - lr sqrt(max(1, m / n)) orthogonal(g + momentum (b - g)), b the mean gradient.

    W is m by n; a convolution (out, in, h, w) counts as out by in h w. b <- momentum b + (1 - momentum) g.
    Muon: An optimizer for hidden layers in neural networks (2024), https://kellerjordan.github.io/posts/muon/
    """

    @takes(momentum=number(0, 1), weight_decay=number(0))
    def __init__(
        self, weights: Iterable[Tensor], lr: float | Tensor, *, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for weight in (weight for weight in group["params"] if weight.grad is not None):
                if "mean" not in self.state[weight]:
                    self.state[weight]["mean"] = torch.zeros_like(weight)
                mean = self.state[weight]["mean"].lerp_(weight.grad, 1 - momentum)
                direction = orthogonal(weight.grad.lerp(mean, momentum).reshape(len(weight), -1))
                scale = max(1.0, direction.shape[0] / direction.shape[1]) ** 0.5
                weight.mul_(1 - lr * group["weight_decay"]).sub_(lr * scale * direction.view(weight.shape))


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """U V^T of a matrix U S V^T, nearly: its singular values come to lie in about [0.7, 1.2], zeros stay zeros.

    Newton-Schulz: s = S / |S| goes through the odd polynomial s p(s^2), p(g) = a + b g + c g^2, in every round. Only
    the Gram matrix, of the smaller side, goes through the rounds, and then their product meets the matrix once.
    """
    a, b, c = COEFFICIENTS
    wide = matrix.shape[0] <= matrix.shape[1]
    x = (matrix if wide else matrix.mT).float()
    x = x / x.norm().clamp_min(1e-7)
    gram = x @ x.mT
    product = one = torch.eye(len(gram), device=gram.device)
    for _ in range(rounds):
        p = a * one + b * gram + c * gram @ gram
        product, gram = p @ product, p @ gram @ p
    x = product @ x
    return (x if wide else x.mT).to(matrix.dtype)


def inner_weights(model: nn.Module) -> list[Tensor]:
    """The weights that Muon is for: matrices and convolutions but those of the first and last layer and of embeddings.

    What is called `stem`, `head` or `conditioning` is such a layer, and what has fewer than 16 rows or columns.
    """
    outer = ("stem", "head", "conditioning")
    return [
        weight
        for name, weight in model.named_parameters()
        if weight.ndim > 1 and not name.startswith(outer) and min(len(weight), weight[0].numel()) >= SMALLEST
    ]


def made(
    model: nn.Module, lr: float, muon: float | None, weight_decay: float, *, graph: bool
) -> dict[str, torch.optim.Optimizer]:
    """AdamW and, at the learning rate `muon`, Muon for the inner weights; rates lie on the device if for a `graph`."""
    on = next(model.parameters()).device

    def rate(value: float) -> float | Tensor:
        return torch.tensor(value, device=on) if graph else value

    inner = [] if muon is None else inner_weights(model)
    if muon is not None and not inner:
        raise ValueError(f"muon has no weights to work on: none inside the model has {SMALLEST} rows and columns")
    outer = [weight for weight in model.parameters() if not any(weight is other for other in inner)]
    how = {"fused": on.type in ("cpu", "cuda"), "capturable": graph}
    optimizers = {"AdamW": torch.optim.AdamW(outer, lr=rate(lr), weight_decay=weight_decay, **how)}
    return optimizers | ({"Muon": Muon(inner, rate(muon), weight_decay=weight_decay)} if inner else {})
