"""Sliders for ipywidgets 7.7 (Colab) and 8: one `Image` whose value changes, never an `Output` that is cleared."""

import time
from collections.abc import Callable, Iterable, Sequence

import ipywidgets
import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from labkit.data.images import balanced_labels
from labkit.flow.exact import ExactMarginal
from labkit.flow.guidance import guided
from labkit.measure.judge import Judge, Quality
from labkit.measure.samples import Guide, draw_images
from labkit.measure.sweeps import cloud_sweep
from labkit.show.curves import guidance_curve, quality_curve
from labkit.show.dials import Dials, Frame
from labkit.show.figures import tile
from labkit.show.pictures import to_png
from labkit.show.plane import LIMIT, guided_cloud

ROWS = 5  # of digits in the explorer
ALL = -1  # in place of a class: all of them


def turn_w(
    sample: Callable[[float, Tensor], Tensor],
    exact: ExactMarginal,
    *,
    ws: Sequence[float] = (0, 0.5, 1, 1.5, 2, 3, 4, 6, 8),
    n: int = 500,
    limit: float = LIMIT,
) -> Dials:
    """The corner "turn w" of a lesson in the plane: a cloud at guidance scale w, and quality and diversity over w.

    `sample(w, y)` returns points (B, 2) for labels y (B,), from the same noise for every w.
    """
    sweeps: dict[int, dict] = {}

    def draw(w: float, label: int) -> Frame:
        y = torch.full((n,), label)
        if label not in sweeps:
            sweeps[label] = cloud_sweep(sample, exact, ws, y)
        x, quality = sweeps[label][float(w)]
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.8))
        guided_cloud(left, x, label, exact, limit=limit)
        left.set_title(f"asked for class {label}, w = {w:g}")
        quality_curve(right, sweeps[label], at=float(w))
        text = (
            f"<b>w = {w:g}</b>: {quality.right:.0%} of {n} points land in class {label} (95% interval "
            f"{quality.low:.0%} to {quality.high:.0%}); their spread is {quality.spread:.2f} of the true one"
        )
        return Frame(to_png(figure), text)

    dials = {"w": [float(w) for w in ws], "class": list(range(exact.num_classes))}
    return Dials(draw, dials, start={"w": 1.0} if 1.0 in dials["w"] else None)


class GuidanceExplorer:
    """Sliders for guidance scale, class and seed over a trained model: `GuidanceExplorer(model).widget` is shown.

    Every setting draws 50 digits; for one class and seed all w start from the same noise. A setting that was drawn
    before comes from memory; `prepare()` draws all w of the current class and seed, so that the slider moves freely.

    Arguments:
        model: a network such as `load_pretrained("mnist-unet")`, with attributes `channels` and `num_classes`.
        judge: judges what is shown (default: nobody does).
        curve: `{w: Quality}` as from `guidance_sweep`, drawn beside the digits with a marker at the current w.
        real: what real digits score at the n of the curve, drawn as dotted lines.
        ws: the positions of the slider (default: those of the curve, or 0 to 8 in halves).
        steps: midpoint steps; 10 steps are 20 evaluations of each branch. A menu offers half and twice as many.
        guides: kinds of guidance to choose from, by name, the plain one first, such as
            `{"plain": guided, "projected": projected}` (default: no menu, plain guidance).
        seed: the seed shown first, 0..99.
    Raises ValueError if there is no position, or w=1 is not among them.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        judge: Judge | None = None,
        curve: dict[float, Quality] | None = None,
        real: Quality | None = None,
        ws: Iterable[float] | None = None,
        steps: int = 10,
        seed: int = 0,
        guides: dict[str, Guide] | None = None,
    ) -> None:
        positions = list(ws if ws is not None else curve or [k / 2 for k in range(17)])
        if 1.0 not in positions:
            raise ValueError(f"ws must hold 1, the plain conditional model, where the slider starts; got {positions}")
        self.model, self.judge, self.curve, self.real = model, judge, curve, real
        self.guides = {"plain": guided} if guides is None else guides
        self._frames: dict[tuple[float, int, int, int, str], Frame] = {}
        self._curves: dict[float, bytes] = {}
        style = {"description_width": "60px"}
        self.w = ipywidgets.SelectionSlider(
            options=[(f"{w:g}", w) for w in positions], value=1.0, description="w", style=style
        )
        digits = [("all", ALL), *((str(digit), digit) for digit in range(model.num_classes))]
        self.digit = ipywidgets.Dropdown(
            options=digits, value=ALL, description="digit", style=style, layout={"width": "160px"}
        )
        self.seed = ipywidgets.BoundedIntText(
            value=seed, min=0, max=99, description="seed", style=style, layout={"width": "160px"}
        )
        self.steps = ipywidgets.Dropdown(
            options=sorted({max(1, steps // 2), steps, 2 * steps}),
            value=steps,
            description="steps",
            style=style,
            layout={"width": "160px"},
        )
        self.guide = ipywidgets.Dropdown(
            options=list(self.guides), description="guidance", style=style, layout={"width": "240px"}
        )
        self.image = ipywidgets.Image(format="png", layout={"width": "440px"})
        self.text = ipywidgets.HTML(layout={"width": "440px"})
        self.chart = ipywidgets.Image(format="png", layout={"width": "400px"})
        choices = [self.steps, self.guide] if len(self.guides) > 1 else [self.steps]
        rows = [ipywidgets.HBox([self.digit, self.seed]), ipywidgets.HBox(choices)]
        left = ipywidgets.VBox([self.w, *rows, self.image, self.text])
        self.widget = ipywidgets.HBox(
            [left, self.chart] if curve else [left], layout={"flex_flow": "row wrap", "align_items": "flex-start"}
        )
        for control in (self.w, self.digit, self.seed, self.steps, self.guide):
            control.observe(self._show, names="value")
        self._show()

    def prepare(self) -> "GuidanceExplorer":
        """Draw every w of what is chosen now, and return the explorer itself."""
        for _, w in self.w.options:
            self.frame(w, self.digit.value, self.seed.value)
            if self.curve:
                self._chart(w)
        return self

    def frame(self, w: float, digit: int, seed: int) -> Frame:
        """Picture and readout, with the steps and guidance chosen; `digit=-1` shows all classes, one a column."""
        key = (w, digit, seed, self.steps.value, self.guide.value)
        if key not in self._frames:
            self._frames[key] = self._draw(*key)
        return self._frames[key]

    def _draw(self, w: float, digit: int, seed: int, steps: int, guide: str) -> Frame:
        count = self.model.num_classes
        y = balanced_labels(ROWS * count, count) if digit == ALL else torch.full((ROWS * count,), digit)
        start = time.perf_counter()
        x = draw_images(self.model, y, w, seed=seed, steps=steps, half=True, guide=self.guides[guide])
        lines = [
            f"<b>w = {w:g}</b> (w' = {w - 1:g} where papers count from the conditional model)",
            f"{len(y)} digits in {time.perf_counter() - start:.2f} s, {2 * steps} evaluations of each branch",
        ]
        if self.judge is not None:
            value, low, high, n = self.judge.accuracy(x, y)
            density, coverage = self.judge.density_coverage(x, y)
            spread = self.judge.diversity(x, y).spread
            lines.append(
                f"these {n}: {round(value * n)} show the digit asked for (95% interval {low:.0%} to {high:.0%}), "
                f"density {density:.2f}, coverage {coverage:.2f}, spread {spread:.2f} of the real one"
            )
        if self.curve and w in self.curve:
            q = self.curve[w]
            lines.append(
                f"measured with n = {q.n:,}, plain guidance: <b>{q.accuracy:.1%}</b> right "
                f"({q.low:.1%} to {q.high:.1%}), density <b>{q.density:.2f}</b>, "
                f"coverage <b>{q.coverage:.2f}</b>, Fréchet distance {q.frechet:.2f}"
            )
        return Frame(to_png(tile(x, columns=count), scale=2), "<br>".join(lines))

    def _chart(self, w: float) -> bytes:
        if w not in self._curves:
            figure, ax = plt.subplots(figsize=(4.6, 3.6))
            guidance_curve(ax, self.curve, real=self.real, at=w)
            self._curves[w] = to_png(figure)
        return self._curves[w]

    def _show(self, _change: dict | None = None) -> None:
        w = self.w.value
        frame = self.frame(w, self.digit.value, self.seed.value)
        self.image.value, self.text.value = frame
        if self.curve:
            self.chart.value = self._chart(w)
