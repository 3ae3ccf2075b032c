"""Drawn diagrams of networks."""

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

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
