"""Sliders for ipywidgets 7.7 (Colab) and 8: one `Image` whose value changes, never an `Output` that is cleared."""

import ipywidgets


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
