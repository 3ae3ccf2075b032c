"""Drawn diagrams of networks, and of the generators that are made of them."""

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle

COLOURS = {"in": "#eeeeee", "encoder": "#cfe2f3", "midcoder": "#f9cb9c", "decoder": "#d9ead3"}
BOX, GAP, DROP = 2.6, 0.55, 1.7  # width and height of a box, and the distance between levels


def unet_diagram(ax: Axes, trace: list[tuple[str, tuple[int, ...]]]) -> Axes:
    """Draw a `UNet` from the trace of its shapes (`labkit.nn.trace.shape_trace`): down, across and up again.

    Every box names a part and its (channels, height, width); every level of the network is a row.
    """
    shapes = {name.rsplit(".", 1)[0] if name.startswith(("encoder", "decoder")) else name: s for name, s in trace}
    levels = sum(name.startswith("encoder") for name in shapes)
    left, right, middle = 0.0, 8.4, 4.2

    def box(x: float, row: float, name: str, part: str, colour: str) -> tuple[float, float]:
        y = -row * DROP
        ax.add_patch(
            FancyBboxPatch(
                (x - BOX / 2, y - GAP),
                BOX,
                2 * GAP,
                boxstyle="round,pad=0.06",
                facecolor=COLOURS[colour],
                edgecolor="0.4",
            )
        )
        size = " × ".join(map(str, shapes[part][1:]))
        ax.text(x, y, f"{name}\n{size}", ha="center", va="center", fontsize=9, linespacing=1.35)
        return x, y

    def arrow(a: tuple[float, float], b: tuple[float, float], label: str = "", style: str = "-") -> None:
        ax.annotate("", b, a, arrowprops={"arrowstyle": "-|>", "color": "0.25", "linestyle": style, "shrinkA": 0})
        ax.text((a[0] + b[0]) / 2, (a[1] + b[1]) / 2 + 0.12, label, ha="center", va="bottom", fontsize=8, color="0.3")

    half, edge = BOX / 2 + 0.1, GAP + 0.08
    stem = box(left, 0, "stem", "stem", "in")
    head = box(right, 0, "head", "head", "in")
    arrow((left, stem[1] + edge + 0.9), (left, stem[1] + edge))
    arrow((right, head[1] + edge), (right, head[1] + edge + 0.9))
    ax.text(left, stem[1] + edge + 1.0, "image $x$", ha="center", fontsize=10)
    ax.text(right, head[1] + edge + 1.0, "velocity", ha="center", fontsize=10)
    arrow((left + half, stem[1]), (right - half, head[1]), "full-resolution skip", "--")
    above_left, above_right = stem, head
    for depth in range(levels):
        down = box(left, depth + 1, f"encoder {depth}", f"encoder.{depth}", "encoder")
        up = box(right, depth + 1, f"decoder {levels - 1 - depth}", f"decoder.{levels - 1 - depth}", "decoder")
        arrow((left, above_left[1] - edge), (left, down[1] + edge))
        arrow((right, up[1] + edge), (right, above_right[1] - edge))
        if depth:
            ax.text(left - 0.12, (above_left[1] + down[1]) / 2, "half the size", ha="right", va="center", fontsize=8)
            ax.text(right + 0.12, (above_right[1] + up[1]) / 2, "twice the size", ha="left", va="center", fontsize=8)
        arrow((left + half, down[1]), (right - half, up[1]), "skip", "--")
        above_left, above_right = down, up
    mid = box(middle, levels + 1, "midcoder", "midcoder.2", "midcoder")
    arrow((left, above_left[1] - edge), (mid[0] - half, mid[1]))
    arrow((mid[0] + half, mid[1]), (right, above_right[1] - edge))
    ax.text(middle, mid[1] - edge - 0.3, "block, attention, block", ha="center", fontsize=8, color="0.3")
    ax.text(
        middle, stem[1] + edge + 0.55, "time $t$ and class $y$ enter\nevery block as scale and shift", ha="center",
        va="center", fontsize=9, color="tab:red",
    )  # fmt: skip
    ax.set(xlim=(left - BOX / 2 - 0.9, right + BOX / 2 + 0.9), ylim=(mid[1] - 1.2, stem[1] + 2.1))
    ax.set_axis_off()
    return ax


INK = {"image": "#cfe2f3", "text": "#fce5cd", "time": "#f4cccc", "out": "#d9ead3", "blocks": "#eeeeee"}
INK["video"] = INK["image"]

#: Name, what is cut into tokens, what says what to draw, what enters by adaLN, what comes out, kind of attention, and
#: (who looks, who is looked at). Scalable Diffusion Models with Transformers (2023), figure 3; Scaling Rectified Flow
#: Transformers for High-Resolution Image Synthesis (2024), figure 2; Movie Gen (2024), section 3.
GENERATORS = (
    (
        "Digits: this course's DiT",
        "pixels, 1 × 32 × 32,\nin patches of 4 × 4",
        "class 0..9:\na row of a table",
        "time and class",
        "velocity\nof pixels",
        "self-attention:\nimage looks at image",
        {("image", "image")},
    ),
    (
        "Pictures from text: MM-DiT",
        "latent of a picture,\nin patches of 2 × 2",
        "two CLIP encoders\nand T5",
        "time and a summary\nof the text",
        "velocity of\nthe latent",
        "joint attention: all tokens\nlook at all, words change, too",
        {(a, b) for a in ("text", "image") for b in ("text", "image")},
    ),
    (
        "Video from text: Movie Gen Video",
        "latent of a clip, in\npatches of 1 × 2 × 2",
        "UL2, ByT5\nand MetaCLIP",
        "time",
        "velocity of\nthe latent",
        "self-attention, then cross-\nattention: words only read",
        {("video", "video"), ("video", "text")},
    ),
)


def generators_diagram(ax: Axes) -> Axes:
    """Draw three diffusion transformers, a row each: digits from a class, pictures from text, and video from text.

    At the right the attention of each: a row of the square is a token that looks, a column one that is looked at.
    """
    for level, (name, seen, told, condition, out, kind, pairs) in enumerate(GENERATORS):
        y = -4.0 * level
        ax.text(-1.9, y + 1.55, name, fontsize=11, weight="bold", va="center")
        for at, text, colour in (
            ((0, y + 0.6), seen, "image"),
            ((0, y - 0.9), told, "text"),
            ((5, y + 0.6), "transformer\nblocks", "blocks"),
            ((5, y - 0.9), condition, "time"),
            ((8.7, y + 0.6), out, "out"),
        ):
            look = {"boxstyle": "round,pad=0.4", "facecolor": INK[colour], "edgecolor": "0.4"}
            ax.text(*at, text, ha="center", va="center", fontsize=9, bbox=look)
        arrows = [((1.9, y + 0.6), (3.85, y + 0.6), ""), ((6.15, y + 0.6), (7.6, y + 0.6), "")]
        arrows += [((5, y - 0.4), (5, y + 0.1), "adaLN")]
        if level:  # words come as tokens of their own, and a class does not
            arrows += [((1.7, y - 0.6), (3.85, y + 0.35), "tokens")]
        if level < 2:
            arrows += [((1.7, y - 0.9), (3.35, y - 0.9), "")]
        for tail, head, label in arrows:
            ax.annotate("", head, tail, arrowprops={"arrowstyle": "-|>", "color": "0.25", "shrinkA": 0, "shrinkB": 0})
            if label == "adaLN":
                ax.text(head[0] + 0.15, (tail[1] + head[1]) / 2, label, fontsize=8, va="center", color="0.3")
            elif label:
                ax.text(2.75, y - 0.02, label, fontsize=8, ha="right", va="center", color="0.3")
        _who_looks(ax, 11.9, y + 1.05, pairs)
        ax.text(12.9, y - 1.25, kind, fontsize=8.5, ha="center", va="center")
    ax.set(xlim=(-2, 15.2), ylim=(-9.8, 2.0))
    ax.set_axis_off()
    return ax


def _who_looks(ax: Axes, x: float, y: float, pairs: set[tuple[str, str]]) -> None:
    """A square for each (who looks, who is looked at), filled where it may; its top left corner is (x, y)."""
    looking, looked_at = (set(kinds) for kinds in zip(*pairs, strict=True))
    (seen,) = looking - {"text"}
    sizes = {"text": 0.55, seen: 1.25} if "text" in looked_at else {seen: 1.8}
    top = y
    for row, height in sizes.items():
        left = x
        top -= height
        ax.text(x - 0.1, top + height / 2, row, ha="right", va="center", fontsize=8)
        for column, width in sizes.items():
            colour = INK[column] if (row, column) in pairs else "white"
            ax.add_patch(Rectangle((left, top), width, height, facecolor=colour, edgecolor="0.4"))
            if top == y - height:
                ax.text(left + width / 2, y + 0.08, column, ha="center", va="bottom", fontsize=8)
            left += width
