"""The one widget mechanism, for ipywidgets 7.7 (Colab) and 8: `Image`s whose value changes, no `Output` to clear."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import ipywidgets

from labkit.base.inputs import a, insist, takes

NATURAL = {"align_items": "flex-start"}  # a small picture stays small; without it a box stretches what it holds
WRAPPED = {**NATURAL, "flex_flow": "row wrap"}
Values = Sequence[float] | Sequence[str]


class Frame(NamedTuple):
    """What one setting shows: a picture as PNG bytes, or several side by side, and what to read off them, as HTML."""

    pictures: bytes | Sequence[bytes]
    text: str = ""


class Dials:
    """Dials over pictures that are drawn when first asked for: `Dials(draw, {"t": ts}).widget` is shown.

    Pictures that are ready need no more than `Dials(lambda w: Frame(frames[w], captions[w]), {"w": list(frames)})`.
    A slider moves the picture while it is dragged if all its pictures are drawn (see `prepare`), and when it is let go
    if some are not: a drag would have to wait for every one on its way.

    Arguments:
        draw: called with one value for each dial, in their order, it gives the same number of pictures every time; a
            setting is drawn once and then remembered.
        dials: for every name the values it can take: numbers make a slider, words a menu, a `range` of step 1 a box to
            type an integer in; these two share lines. A dial of one value is not shown.
        start: the values shown first, by name (default: the first of each); ValueError if they are not among `dials`.
    Its parts, `dials` by name, `images` and `text`, make up its `widget`.
    """

    @takes()
    def __init__(
        self, draw: Callable[..., Frame], dials: dict[str, Values], *, start: dict[str, float | str] | None = None
    ) -> None:
        start = start or {}
        if not dials or not all(len(values) for values in dials.values()):
            raise ValueError(f"every dial needs at least one value; got {dials}")
        if unknown := [f"{name}={value}" for name, value in start.items() if value not in dials.get(name, ())]:
            raise ValueError(f"start must be among the values of the dials; got {', '.join(unknown)}")
        self.values, self._draw, self._drawn = dials, draw, {}
        self.dials = {name: _dial(name, values, start.get(name, values[0])) for name, values in dials.items()}
        first = _listed(self.frame(self.setting))
        self.images = [ipywidgets.Image(format="png", layout={"max_width": "100%"}) for _ in first]
        self.text = ipywidgets.HTML()
        turning = [dial for name, dial in self.dials.items() if len(dials[name]) > 1]
        sliders = [dial for dial in turning if isinstance(dial, ipywidgets.SelectionSlider)]
        small = ipywidgets.HBox([dial for dial in turning if dial not in sliders], layout={**WRAPPED, "width": "440px"})
        row = ipywidgets.HBox(self.images, layout=WRAPPED)
        self.widget = ipywidgets.VBox([*sliders, *[small] * bool(small.children), row, self.text], layout=NATURAL)
        for dial in self.dials.values():
            dial.observe(self._show, names="value")
        self._show()

    @property
    def setting(self) -> tuple:
        """The values of the dials, in their order."""
        return tuple(dial.value for dial in self.dials.values())

    @takes()
    def frame(self, setting: tuple) -> Frame:
        """What a setting shows, drawn the first time it is asked for."""
        if setting not in self._drawn:
            insist("the value of draw", drawn := self._draw(*setting), a(Frame))
            self._drawn[setting] = drawn
        return self._drawn[setting]

    @takes(name=a(str))
    def prepare(self, name: str) -> "Dials":
        """Draw all values of a dial (ValueError for none) now, the others as they stand, so that it moves freely."""
        if name not in self.dials:
            raise ValueError(f"name must be one of {', '.join(self.dials)}; got {name!r}")
        for setting in self._along(name):
            self.frame(setting)
        self._show()
        return self

    def _along(self, name: str) -> list[tuple]:
        """The settings that one dial leads to, the others as they stand."""
        here = {other: dial.value for other, dial in self.dials.items()}
        return [tuple((here | {name: value}).values()) for value in self.values[name]]

    def _show(self, _change: dict | None = None) -> None:
        if self.setting not in self._drawn:
            self.text.value = "<i>drawing ...</i>"
        frame = self.frame(self.setting)
        for image, picture in zip(self.images, _listed(frame), strict=True):
            image.value = picture
        self.text.value = frame.text
        for name, dial in self.dials.items():
            if isinstance(dial, ipywidgets.SelectionSlider):
                dial.continuous_update = all(setting in self._drawn for setting in self._along(name))


def _listed(frame: Frame) -> Sequence[bytes]:
    return [frame.pictures] if isinstance(frame.pictures, bytes) else frame.pictures


def _dial(name: str, values: Values, start: float | str) -> ipywidgets.DOMWidget:
    look = {"value": start, "description": name, "style": {"description_width": "60px"}, "layout": {"width": "210px"}}
    if isinstance(values, range) and values.step == 1:
        return ipywidgets.BoundedIntText(min=values[0], max=values[-1], **look)
    if isinstance(start, str):
        return ipywidgets.Dropdown(options=list(values), **look)
    look["layout"] = {"width": "420px"}
    return ipywidgets.SelectionSlider(options=[(f"{value:g}", value) for value in values], **look)
