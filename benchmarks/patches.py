"""Transformers with patches of 2, 4 and 8 and the U-Net, each trained for equally long: `python benchmarks/patches.py`.

What fits into the time is measured first, on networks that are thrown away, so that every learning rate ends at 0.
The U-Net is then trained once more, with as many operations as the best of the transformers took. All are judged at w=1
and w=3; the table `mnist-dit-patches` of the assets keeps it all.
"""

import argparse
import json
from functools import partial

import torch
from torch import nn

from labkit.base.files import FOLDER, Card, provenance, write_table
from labkit.base.runtime import autocast, device, half_precision, seed_everything, seeded_noise
from labkit.data import balanced_labels, batches, mnist32
from labkit.measure import Judge, draw, held_out_loss, sweep
from labkit.measure.samples import sampling_settings
from labkit.nn import DiT, flop_count
from labkit.training import RECIPES, History, Network, fit, steps_within

PATCHES = (2, 4, 8)


def patches(
    *,
    seconds: float = 150.0,
    n: int = 500,
    batch_size: int = 64,
    lr: float = 3e-3,
    seed: int = 0,
    solver_steps: int | None = None,
) -> Card:
    """Train every variant for `seconds`, judge n of its samples, write the table and return its card."""
    on = device()
    began, judge, recipe = provenance(on), Judge.pretrained(device=on), RECIPES["mnist-dit"]
    images, labels = (part.to(on) for part in mnist32("train"))
    y, noise, half = balanced_labels(n, 10), seeded_noise(n, 1, 32, 32), half_precision(on, heavy=True)
    rows = []

    def train(network: Network, steps: int, progress: bool = False) -> History:
        generator = seed_everything(seed)
        stream = batches(images, labels, batch_size, generator)
        return fit(network.build().to(on), recipe.loss_fn(), stream, steps=steps, lr=lr, progress=progress)

    def tabulate(variant: str, network: Network, steps: int) -> None:
        history = train(network, steps, progress=True)
        model = history.ema
        with autocast(on, half):
            loss = held_out_loss(model, recipe.network.gaussian_path())
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
        sample = partial(draw, model, noise, steps=solver_steps, half=True, chunk=100)
        for w, quality in sweep(lambda w, y: sample(y, w), judge.measure, (1.0, 3.0), y).items():
            rows.append(about | {"w": w} | quality.row())
            print(f"{variant}, {steps:,} steps, loss {loss:.4f}, w={w:g}: {quality}", flush=True)

    for variant, network in variants().items():
        tabulate(variant, network, steps_within(seconds, partial(train, network)))
    best = min((row for row in rows if row["tokens"]), key=lambda row: row["loss"])
    unet = next(row for row in rows if not row["tokens"])
    equal_work = round(best["steps"] * best["mflop"] / unet["mflop"])
    tabulate("U-Net, equal work", variants()["U-Net"], equal_work)

    details = began | {
        "seconds of training": seconds,
        "equal work": f"as many operations as {best['variant']}",
        "batch_size": batch_size,
        "lr": lr,
        "drop": recipe.drop,
        "seed": seed,
        "precision": {
            "training": " and ".join(sorted({row["precision"] for row in rows})),
            "sampling and loss": str(half or torch.float32).removeprefix("torch."),
        },
        "sampling": sampling_settings(solver_steps),
    }
    source = f"python benchmarks/patches.py --seconds {seconds:g} --samples {n}"
    card = Card("Transformers by size of patch, and the U-Net, trained for equally long", source, "MIT", details)
    return write_table(FOLDER / "mnist-dit-patches.csv", rows, card)


def variants() -> dict[str, Network]:
    """Each of the networks: the recipes', but for the size of the transformer's patches."""
    dit = RECIPES["mnist-dit"].network
    found = {f"DiT, patch {patch}": Network("DiT", dit.arguments | {"patch": patch}) for patch in PATCHES}
    return found | {"U-Net": RECIPES["mnist-unet"].network}


def forward_flop(model: nn.Module) -> int:
    """Floating-point operations of one evaluation of one image."""
    on = next(model.parameters()).device
    x, t = torch.zeros(1, model.channels, 32, 32, device=on), torch.zeros(1, device=on)
    return flop_count(model, x, t, torch.zeros(1, dtype=torch.int64, device=on))


def main() -> None:
    """Train, judge and write; see the head of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=150.0, help="training time of each network (default 150)")
    parser.add_argument("--samples", type=int, default=500, help="samples judged at each scale (default 500)")
    asked = parser.parse_args()
    print(json.dumps(patches(seconds=asked.seconds, n=asked.samples).details, indent=2))


if __name__ == "__main__":
    main()
