"""Drawn diagrams of networks, and of the generators that are made of them."""

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle

from labkit.base.inputs import takes

BLUE, ORANGE, RED, GREEN, GREY, PEACH = "#cfe2f3", "#fce5cd", "#f4cccc", "#d9ead3", "#eeeeee", "#f9cb9c"


@takes()
def unet_diagram(ax: Axes, trace: list[tuple[str, tuple[int, ...]]]) -> Axes:
    """Draw a `UNet` from the trace of its shapes (`labkit.nn.shape_trace`): down, across and up again.

    Every box names a part and its (channels, height, width); every level of the network is a row.
    """
    shapes = {name.rsplit(".", 1)[0] if "coder" in name else name: shape[1:] for name, shape in trace}
    levels = sum(name.startswith("encoder") for name in shapes)
    left, middle, right, drop = 0.0, 4.2, 8.4, 1.7  # columns, and the distance between rows
    side, edge = 1.4, 0.63  # from the middle of a box to where arrows touch it

    def box(x: float, y: float, part: str, colour: str) -> None:
        ax.add_patch(FancyBboxPatch((x - 1.3, y - 0.55), 2.6, 1.1, boxstyle="round,pad=0.06", fc=colour, ec="0.4"))
        text = f"{part.replace('.', ' ')}\n{' × '.join(map(str, shapes[part]))}"
        ax.text(x, y, text, ha="center", va="center", fontsize=9, linespacing=1.35)

    pairs = [("stem", "head"), *((f"encoder.{k}", f"decoder.{levels - 1 - k}") for k in range(levels))]
    for row, (down, up) in enumerate(pairs):
        y = -drop * row
        box(left, y, down, BLUE if row else GREY)
        box(right, y, up, GREEN if row else GREY)
        _arrow(ax, (left + side, y), (right - side, y), "--")
        skip = "skip" if row else "full-resolution skip"
        ax.text(middle, y + 0.12, skip, ha="center", va="bottom", fontsize=8, color="0.3")
        if row < levels:
            _arrow(ax, (left, y - edge), (left, y - drop + edge))
            _arrow(ax, (right, y - drop + edge), (right, y - edge))
        if 0 < row < levels:
            ax.text(left - 0.12, y - drop / 2, "half the size", ha="right", va="center", fontsize=8)
            ax.text(right + 0.12, y - drop / 2, "twice the size", ha="left", va="center", fontsize=8)
    below = y - drop
    box(middle, below, "midcoder", PEACH)
    _arrow(ax, (left, y - edge), (middle - side, below))
    _arrow(ax, (middle + side, below), (right, y - edge))
    ax.text(middle, below - edge - 0.3, "block, attention, block", ha="center", fontsize=8, color="0.3")
    _arrow(ax, (left, edge + 0.9), (left, edge))
    _arrow(ax, (right, edge), (right, edge + 0.9))
    ax.text(left, edge + 1, "image $x$", ha="center")
    ax.text(right, edge + 1, "velocity", ha="center")
    enters = "time $t$ and class $y$ enter\nevery block as scale and shift"
    ax.text(middle, edge + 0.55, enters, ha="center", va="center", fontsize=9, color="tab:red")
    ax.set(xlim=(left - 2.2, right + 2.2), ylim=(below - 1.2, 2.1))
    ax.set_axis_off()
    return ax


#: Name: (what is cut into tokens, what says what to draw, what enters by adaLN), (attention, who looks at whom).
#: Scalable Diffusion Models with Transformers (2023), figure 3; Scaling Rectified Flow Transformers for High-Resolution
#: Image Synthesis (2024), figure 2; Movie Gen (2024), section 3.
GENERATORS = {
    "Digits: this course's DiT": (
        ("pixels, 1 × 32 × 32,\nin patches of 4 × 4", "class 0..9:\na row of a table", "time and class"),
        ("self-attention:\nimage looks at image", {"image": "image"}),
    ),
    "Pictures from text: MM-DiT": (
        ("latent of a picture,\nin patches of 2 × 2", "two CLIP encoders\nand T5", "time and a summary\nof the text"),
        ("joint attention: all tokens\nlook at all, words change, too", {"text": "text image", "image": "text image"}),
    ),
    "Video from text: Movie Gen Video": (
        ("latent of a clip, in\npatches of 1 × 2 × 2", "UL2, ByT5\nand MetaCLIP", "time"),
        ("self-attention, then cross-\nattention: words only read", {"text": "", "video": "text video"}),
    ),
}


@takes()
def generators_diagram(ax: Axes) -> Axes:
    """Draw three diffusion transformers, a row each: digits from a class, pictures from text, and video from text.

    At the right the attention of each: a row of the square is a token that looks, a column one that is looked at.
    """
    for place, (name, ((seen, told, condition), (kind, looks))) in enumerate(GENERATORS.items()):
        y = 0.6 - 4.0 * place
        low = y - 1.5
        ax.text(-1.9, y + 0.95, name, fontsize=11, weight="bold", va="center")
        heads = [((0, y), (3.85, y)), ((5, y), (7.8, y)), ((5, low), (5, y - 0.5))]
        heads += [((0, low), (3.85, y - 0.25))] if "text" in looks else []  # words are tokens of their own
        heads += [((0, low), (3.35, low))] if condition != "time" else []
        for tail, head in heads:
            _arrow(ax, tail, head)
        ax.text(5.15, y - 0.75, "adaLN", fontsize=8, va="center", color="0.3")
        boxes = {seen: (0, y, BLUE), told: (0, low, ORANGE), condition: (5, low, RED), "velocity": (8.7, y, GREEN)}
        boxes["transformer\nblocks"] = (5, y, GREY)
        for text, (x, height, colour) in boxes.items():
            look = {"boxstyle": "round,pad=0.4", "facecolor": colour, "edgecolor": "0.4"}
            ax.text(x, height, text, ha="center", va="center", fontsize=9, bbox=look)
        _who_looks(ax, 11.9, y + 0.45, looks)
        ax.text(12.9, low - 0.35, kind, fontsize=8.5, ha="center", va="center")
    ax.set(xlim=(-2, 15.2), ylim=(-9.8, 2.0))
    ax.set_axis_off()
    return ax


def _who_looks(ax: Axes, left: float, top: float, looks: dict[str, str]) -> None:
    """A square for each (who looks, who is looked at), filled where it may; words take the smaller part."""
    edges = dict(zip(looks, ((0.0, 0.55), (0.55, 1.8)) if len(looks) > 1 else ((0.0, 1.8),), strict=True))
    for row, (start, end) in edges.items():
        ax.text(left - 0.1, top - (start + end) / 2, row, ha="right", va="center", fontsize=8)
        ax.text(left + (start + end) / 2, top + 0.08, row, ha="center", va="bottom", fontsize=8)
        for column, (near, far) in edges.items():
            colour = "white" if column not in looks[row] else ORANGE if column == "text" else BLUE
            ax.add_patch(Rectangle((left + near, top - end), far - near, end - start, fc=colour, ec="0.4"))


def _arrow(ax: Axes, tail: tuple[float, float], head: tuple[float, float], style: str = "-") -> None:
    look = {"arrowstyle": "-|>", "color": "0.25", "linestyle": style, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", head, tail, arrowprops=look)
