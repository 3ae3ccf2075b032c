"""Sliders for ipywidgets 7.7 (Colab) and 8: one `Image` whose value changes, never an `Output` that is cleared."""

import time
from collections.abc import Iterable
from typing import NamedTuple

import ipywidgets
import matplotlib.pyplot as plt
import torch
from torch import nn

from labkit.judge import Judge, Quality
from labkit.plotting import guidance_curve, tile, to_png
from labkit.sampling import balanced_labels, draw_images

ROWS = 5  # of digits in the explorer
ALL = -1  # in place of a class: all of them


class FrameSlider:
    """A slider over ready-made pictures: `FrameSlider({1.0: png, 3.0: png}, name="w").widget` is what a cell displays.

    Arguments:
        frames: PNG bytes for every position of the slider, in order.
        name: what stands before the slider.
        start: the position shown first (default: the first one).
        captions: HTML under the picture for every position; it should say in words what the picture shows.

    Raises ValueError if there are no frames, or start or captions do not belong to them.
    """

    def __init__(
        self,
        frames: dict[float, bytes],
        *,
        name: str,
        start: float | None = None,
        captions: dict[float, str] | None = None,
    ) -> None:
        if not frames:
            raise ValueError("frames must hold at least one picture")
        start = next(iter(frames)) if start is None else start
        if start not in frames:
            raise ValueError(f"start must be one of {list(frames)}; got {start}")
        if captions is not None and captions.keys() != frames.keys():
            raise ValueError(f"captions must have the keys of frames, {list(frames)}; got {list(captions)}")
        self.frames, self.captions = frames, captions
        self.slider = ipywidgets.SelectionSlider(
            options=[(f"{value:g}", value) for value in frames],
            value=start,
            description=name,
            style={"description_width": "initial"},
            layout={"width": "420px"},
        )
        self.image = ipywidgets.Image(format="png", layout={"max_width": "100%"})
        self.text = ipywidgets.HTML()
        self.widget = ipywidgets.VBox([self.slider, self.image, self.text])
        self.slider.observe(self._show, names="value")
        self._show()

    def _show(self, _change: dict | None = None) -> None:
        self.image.value = self.frames[self.slider.value]
        if self.captions is not None:
            self.text.value = self.captions[self.slider.value]


class Frame(NamedTuple):
    """What the explorer shows at one setting: the digits as PNG bytes, and what the judge says of them, as HTML."""

    png: bytes
    text: str


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
        steps: midpoint steps; 10 steps are 20 evaluations of each branch.
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
    ) -> None:
        positions = list(ws if ws is not None else curve or [k / 2 for k in range(17)])
        if 1.0 not in positions:
            raise ValueError(f"ws must hold 1, the plain conditional model, where the slider starts; got {positions}")
        self.model, self.judge, self.curve, self.real, self.steps = model, judge, curve, real, steps
        self._frames: dict[tuple[float, int, int], Frame] = {}
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
        self.image = ipywidgets.Image(format="png", layout={"width": "440px"})
        self.text = ipywidgets.HTML(layout={"width": "440px"})
        self.chart = ipywidgets.Image(format="png", layout={"width": "400px"})
        left = ipywidgets.VBox([self.w, ipywidgets.HBox([self.digit, self.seed]), self.image, self.text])
        self.widget = ipywidgets.HBox(
            [left, self.chart] if curve else [left], layout={"flex_flow": "row wrap", "align_items": "flex-start"}
        )
        for control in (self.w, self.digit, self.seed):
            control.observe(self._show, names="value")
        self._show()

    def prepare(self) -> "GuidanceExplorer":
        """Draw every w of the class and seed now chosen, and return the explorer itself."""
        for _, w in self.w.options:
            self.frame(w, self.digit.value, self.seed.value)
            self._chart(w)
        return self

    def frame(self, w: float, digit: int, seed: int) -> Frame:
        """The picture and its readout at one setting; `digit=-1` shows all classes, one a column."""
        key = (w, digit, seed)
        if key not in self._frames:
            self._frames[key] = self._draw(*key)
        return self._frames[key]

    def _draw(self, w: float, digit: int, seed: int) -> Frame:
        count = self.model.num_classes
        y = balanced_labels(ROWS * count, count) if digit == ALL else torch.full((ROWS * count,), digit)
        start = time.perf_counter()
        x = draw_images(self.model, y, w, seed=seed, steps=self.steps, half=True)
        lines = [
            f"<b>w = {w:g}</b> (w' = {w - 1:g} where papers count from the conditional model)",
            f"{len(y)} digits in {time.perf_counter() - start:.2f} s, {2 * self.steps} evaluations of each branch",
        ]
        if self.judge is not None:
            value, low, high, n = self.judge.accuracy(x, y)
            density, coverage = self.judge.density_coverage(x, y)
            lines.append(
                f"these {n}: {round(value * n)} show the digit asked for (95% interval {low:.0%} to {high:.0%}), "
                f"density {density:.2f}, coverage {coverage:.2f}"
            )
        if self.curve and w in self.curve:
            q = self.curve[w]
            lines.append(
                f"measured with n = {q.n:,}: <b>{q.accuracy:.1%}</b> right ({q.low:.1%} to {q.high:.1%}), "
                f"density <b>{q.density:.2f}</b>, coverage <b>{q.coverage:.2f}</b>, Fréchet distance {q.frechet:.2f}"
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
