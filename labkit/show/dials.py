"""Sliders for ipywidgets 7.7 (Colab) and 8: one `Image` whose value changes, never an `Output` that is cleared."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import ipywidgets

NATURAL = {"align_items": "flex-start"}  # a small picture stays small; without it a box stretches what it holds


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
        self.widget = ipywidgets.VBox([self.slider, self.image, self.text], layout=NATURAL)
        self.slider.observe(self._show, names="value")
        self._show()

    def _show(self, _change: dict | None = None) -> None:
        self.image.value = self.frames[self.slider.value]
        if self.captions is not None:
            self.text.value = self.captions[self.slider.value]


class Frame(NamedTuple):
    """What is shown at one setting: the picture as PNG bytes, and what to read off it, as HTML."""

    png: bytes
    text: str


class Dials:
    """Several sliders over one picture that is drawn when first asked for: `Dials(draw, {"t": ts}).widget` is shown.

    Arguments:
        draw: `draw(*setting) -> Frame`, called with one value for each dial, in their order; the same setting is
            drawn once and then remembered.
        dials: for every name the values it can take: numbers make a slider, words a menu.
        start: the values shown first, by name (default: the first of each).
    Raises ValueError if a dial has no values, or `start` is not among them.
    """

    def __init__(
        self,
        draw: Callable[..., Frame],
        dials: dict[str, Sequence[float] | Sequence[str]],
        *,
        start: dict[str, float | str] | None = None,
    ) -> None:
        start = {} if start is None else start
        if not dials or not all(len(values) for values in dials.values()):
            raise ValueError(f"every dial needs at least one value; got {dials}")
        if unknown := [f"{name}={value}" for name, value in start.items() if value not in dials.get(name, ())]:
            raise ValueError(f"start must be among the values of the dials; got {', '.join(unknown)}")
        self.draw = draw
        self.dials = {name: self._dial(name, values, start.get(name, values[0])) for name, values in dials.items()}
        self._frames: dict[tuple, Frame] = {}
        self.image = ipywidgets.Image(format="png", layout={"max_width": "100%"})
        self.text = ipywidgets.HTML()
        self.widget = ipywidgets.VBox([*self.dials.values(), self.image, self.text], layout=NATURAL)
        for dial in self.dials.values():
            dial.observe(self._show, names="value")
        self._show()

    @property
    def setting(self) -> tuple:
        """The values of the dials, in their order."""
        return tuple(dial.value for dial in self.dials.values())

    @staticmethod
    def _dial(name: str, values: Sequence, start: float | str) -> ipywidgets.DOMWidget:
        look = {"description": name, "style": {"description_width": "80px"}, "layout": {"width": "420px"}}
        if isinstance(start, str):
            return ipywidgets.Dropdown(options=list(values), value=start, **look)
        return ipywidgets.SelectionSlider(options=[(f"{value:g}", value) for value in values], value=start, **look)

    def _show(self, _change: dict | None = None) -> None:
        if self.setting not in self._frames:
            self._frames[self.setting] = self.draw(*self.setting)
        self.image.value, self.text.value = self._frames[self.setting]
