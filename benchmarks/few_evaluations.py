"""As few evaluations as are enough: `python benchmarks/few_evaluations.py NAME --samples 10000`.

Draws the same samples of a shipped model by methods of one and of two evaluations a step, on grids that are shifted
towards the noise (`labkit.flow.multistep.shifted`), and sets each beside a tight solve from the same noise: by the
Frechet distance of both to real digits, and by how far the pictures themselves are from the tight ones. On a CPU the
network runs in its fast precision.
"""

import argparse
import json
from pathlib import Path

from guidance_table import fast_drawing

from labkit.base import device, machine, seeded_noise
from labkit.data import balanced_labels
from labkit.flow import midpoint
from labkit.flow.multistep import adams_bashforth2, dpm_solver2m, shifted
from labkit.measure import Judge, draw
from labkit.training import load_pretrained

METHODS = {"midpoint": (midpoint, 2), "Adams-Bashforth 2": (adams_bashforth2, 1), "DPM-Solver++ 2M": (dpm_solver2m, 1)}
TIGHT = 24  # midpoint steps
EVALUATIONS = {1.0: (6, 8), 3.0: (8, 10, 12)}
SHIFTS = (0.35, 0.5, 0.7, 1.0)


def main() -> None:
    """Draw, judge and print; see the head of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="the model, for example mnist-unet")
    parser.add_argument("--samples", type=int, default=1_000, help="samples of each row (default 1000)")
    parser.add_argument("--method", action="append", choices=METHODS, help="this one only; may be repeated")
    parser.add_argument("--shift", action="append", type=float, help=f"may be repeated (default {SHIFTS})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    asked = parser.parse_args()

    on = device()
    (model, weights), judge, n = load_pretrained(asked.name, on), Judge.pretrained(device=on), asked.samples
    y, noise, (fast, precision) = balanced_labels(n, model.null), seeded_noise(n, 1, 32, 32), fast_drawing(on)
    run = {"machine": machine(on), "precision": precision, "weights": weights.sha256, "n": n, "rows": []}

    for w, counts in EVALUATIONS.items():
        tight = draw(model, noise, y, w, steps=TIGHT, step=midpoint, **fast)
        goal = judge.measure(tight, y).frechet
        print(f"w={w:g}, tight, {2 * TIGHT} evaluations a branch: Frechet distance {goal:.3f}", flush=True)
        for method in asked.method or METHODS:
            step, cost = METHODS[method]
            for count in (count for count in counts if count % cost == 0):
                for shift in asked.shift or SHIFTS:
                    x = draw(model, noise, y, w, steps=shifted(count // cost, shift), step=step, **fast)
                    found, apart = judge.measure(x, y).frechet, (x - tight).square().mean().sqrt().item()
                    row = {"method": method, "w": w, "evaluations": count, "shift": shift, "tight": goal}
                    run["rows"].append(row | {"frechet": found, "root mean square to tight": apart})
                    print(f"w={w:g}, {method}, {count} evaluations, shift {shift:g}: Frechet distance {found:.3f} "
                          f"({found - goal:+.3f}), pictures {apart:.4f} from tight ones", flush=True)  # fmt: skip
                    if asked.json:
                        asked.json.write_text(json.dumps(run, indent=2))


if __name__ == "__main__":
    main()
