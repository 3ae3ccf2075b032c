"""What a training step costs on a GPU: `python benchmarks/step_time.py`.

For the U-Net and the transformer that ship and a few sizes of batch, milliseconds a step and images a second of

    fit      labkit's `fit` as it is: batches, clipping, averaging, the schedule and the reading of losses
    replayed the same with `graph=True`: the step recorded once as a CUDA graph
    eager    the loss, its gradient and a fused AdamW, in the device's half precision, with nothing around it
    graph    that step captured as a CUDA graph and replayed: what is left without Python and launches
    compile  the same step with the network through `torch.compile` (`--compile`, which measures this and eager only)

Each runs for about `--seconds` after a warm-up. Loss and times are those of `retrain`, drawn in the step; the batch of
eager, graph and compile stays the same. A case that fails is printed with its error and does not stop the rest.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from labkit.base import autocast, device, half_precision, machine, seed_everything
from labkit.data import batches, mnist32, to_float
from labkit.training import RECIPES, fit, steps_within

GENERATORS = ("mnist-unet", "mnist-dit")
KINDS = ("fit", "replayed", "eager", "graph")
WARMING = 5  # steps before anything is captured or measured


def network(name: str, on: torch.device) -> nn.Module:
    """The untrained network of a recipe, laid out as `fit` does."""
    return RECIPES[name].network.build().to(on).to(memory_format=torch.channels_last)


def wait(on: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if on.type == "cuda":
        torch.cuda.synchronize(on)


def seconds_a_step(step: Callable[[], object], seconds: float, on: torch.device) -> float:
    """The mean time of `step()`, measured over about `seconds` after a few that warm up."""
    for _ in range(WARMING):
        step()
    wait(on)
    steps, some, began = 0, 1, time.perf_counter()
    while (taken := time.perf_counter() - began) < seconds:
        for _ in range(some):
            step()
        wait(on)
        steps, some = steps + some, min(2 * some, 100)
    return taken / steps


def bare_step(name: str, z: Tensor, y: Tensor, *, compiled: bool = False, capturable: bool = False) -> Callable:
    """A training step on one batch, without what `fit` does around it."""
    on = z.device
    model = network(name, on).train()
    loss_fn = RECIPES[name].loss_fn()
    half = half_precision(on, heavy=True)
    fused = on.type in ("cpu", "cuda")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=fused, capturable=capturable)
    called = torch.compile(model) if compiled else model

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(on, half):
            loss = loss_fn(called, z, y)
        loss.backward()
        optimizer.step()

    return step


def by_fit(name: str, images: Tensor, labels: Tensor, batch: int, seconds: float, graph: bool = False) -> float:
    """Seconds a step of `fit`, in a training that takes about `seconds`."""
    loss_fn = RECIPES[name].loss_fn()
    stream = batches(images, labels, batch)

    def train(steps: int):  # noqa: ANN202
        return fit(network(name, images.device), loss_fn, stream, steps=steps, lr=1e-3, graph=graph, progress=False)

    history = train(steps_within(seconds, train, few=8))
    return history.seconds / history.steps


def captured(name: str, z: Tensor, y: Tensor) -> Callable:
    """The bare step as a CUDA graph, which `replay` runs."""
    step = bare_step(name, z, y, capturable=True)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # as the manual asks: warm up beside the stream that captures
        for _ in range(WARMING):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def main() -> None:
    """Measure and print; see the head of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="+", choices=GENERATORS, default=GENERATORS, help="of these (default both)")
    parser.add_argument("--batches", type=int, nargs="+", default=[128, 512, 2048], help="sizes (default 128 512 2048)")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each case is measured (default 2)")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile, at the batch size 512 only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    asked = parser.parse_args()

    on = device()
    print(f"{machine(on)}; half precision: {half_precision(on, heavy=True)}", flush=True)
    images, labels = (part.to(on) for part in mnist32("train"))
    sizes = asked.batches if not asked.compile else [512] if 512 in asked.batches else asked.batches[:1]
    kinds = ("eager", "compile") if asked.compile else KINDS
    rows = []
    print(f"{'network':12s}{'batch':>6s}  {'case':8s}{'ms a step':>11s}{'images/s':>12s}{'start-up s':>12s}")
    for name in asked.names:
        for batch in sizes:
            z, y = to_float(images[:batch]), labels[:batch].clone()
            for kind in kinds:
                seed_everything(0)
                row = {"network": name, "batch": batch, "case": kind}
                began = time.perf_counter()
                try:
                    if kind in ("fit", "replayed"):
                        start_up, each = 0.0, by_fit(name, images, labels, batch, asked.seconds, kind == "replayed")
                    else:
                        graph = kind == "graph"
                        step = captured(name, z, y) if graph else bare_step(name, z, y, compiled=kind == "compile")
                        step()
                        wait(on)
                        start_up = time.perf_counter() - began
                        each = seconds_a_step(step, asked.seconds, on)
                except Exception as error:  # one case that does not run here must not cost the others
                    row["error"] = f"{type(error).__name__}: {error}"[:500]
                    print(f"{name:12s}{batch:6d}  {kind:8s}{row['error']}", flush=True)
                else:
                    row |= {"ms": 1e3 * each, "images_per_second": batch / each, "start_up": start_up}
                    figures = f"{row['ms']:11.3f}{row['images_per_second']:12,.0f}{start_up:12.2f}"
                    print(f"{name:12s}{batch:6d}  {kind:8s}{figures}", flush=True)
                rows.append(row)
                if asked.json:
                    asked.json.write_text(json.dumps({"machine": machine(on), "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
