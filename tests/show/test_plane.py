"""Figures in the plane show what they are given where it is: read off the drawn pixels and arrows, not off the code."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.quiver import Quiver

from labkit.flow.exact import ExactMarginal
from labkit.flow.mixtures import GaussianMixture, petals
from labkit.flow.paths import GaussianPath
from labkit.show import plane

MODE = (1.5, -0.9)  # off both diagonals, so that no swapped or flipped axis can hide
PEAK = GaussianMixture(torch.tensor([MODE, (-1.0, 0.6)]), torch.tensor([0.5, 0.9]), torch.tensor([0.7, 0.3]))


@pytest.fixture
def ax():
    _, ax = plt.subplots(figsize=(4, 4), dpi=100)
    yield ax
    plt.close("all")


def pixels(ax):
    """The brightness (rows, columns) of an axes' picture, and a function of data coordinates to (row, column)."""
    ax.figure.canvas.draw()
    picture = np.asarray(ax.figure.canvas.buffer_rgba())[..., :3].astype(float).mean(axis=2)

    def at(x, y):
        column, row = ax.transData.transform((x, y))
        return picture[int(len(picture) - row), int(column)]

    return picture, at


def darkest(ax, limit, n=61):
    """The middle of the darkest places of a picture, looked up within the frame."""
    _, at = pixels(ax)
    line = np.linspace(-0.97 * limit, 0.97 * limit, n)
    shades = np.array([[at(x, y) for x in line] for y in line])
    rows, columns = np.nonzero(shades <= shades.min() + 1)
    return line[columns].mean(), line[rows].mean()


def arrow_of(ax):
    (found,) = [artist for artist in ax.get_children() if isinstance(artist, Quiver)]
    return found


def test_the_mesh_is_a_square_of_points_row_by_row_from_below():
    points = plane.mesh(2.0, 5)
    assert points.shape == (25, 2)
    assert points[:5].tolist() == [[-2, -2], [-1, -2], [0, -2], [1, -2], [2, -2]]
    assert points[-1].tolist() == [2, 2] and len({tuple(point) for point in points.tolist()}) == 25
    assert plane.mesh().abs().max() == plane.LIMIT


@pytest.mark.parametrize("limit", [3.0, 2.0])
def test_the_darkest_place_of_a_density_is_its_mode(ax, limit):
    assert plane.density(ax, PEAK.log_prob, limit=limit) is ax
    assert darkest(ax, limit) == pytest.approx(MODE, abs=0.12)
    _, at = pixels(ax)
    assert at(-0.9 * limit, -0.9 * limit) == 255  # where there is nothing, paper stays white
    # As dark as it is dense: along a ray from the mode it grows brighter.
    ray = [at(MODE[0], MODE[1] + step) for step in (0.0, 0.4, 0.7, 1.1)]
    assert ray == sorted(ray) and len(set(ray)) == 4


def test_equal_densities_have_equal_shades_in_panels_with_the_same_top(ax):
    other = ax.figure.add_subplot(2, 2, 1)
    narrow, wide = (GaussianMixture(torch.zeros(1, 2), std) for std in (0.5, 1.0))
    top = narrow.log_prob(torch.zeros(1, 2)).exp().item()
    for panel, mixture in ((ax, narrow), (other, wide)):
        plane.density(panel, mixture.log_prob, top=top)
    first, second = (panel.collections[0] for panel in (ax, other))
    assert np.allclose(first.norm.vmax, second.norm.vmax) and np.allclose(first.levels, second.levels)
    assert first.levels[0] == pytest.approx(0.02 * top) and max(first.levels) >= top * (1 - 1e-6)


def test_contour_lines_run_at_their_share_of_the_highest_density(ax):
    gaussian = GaussianMixture(torch.zeros(1, 2), 0.8)
    plane.density(ax, gaussian.log_prob, lines=True)
    (contours,) = ax.collections
    radii = [np.linalg.norm(path.vertices, axis=1).mean() for path in contours.get_paths()]
    # exp(-r^2 / 2 std^2) is the share; the mesh misses the very top by less than a percent.
    expected = [0.8 * np.sqrt(-2 * np.log(share)) for share in (0.02, 0.1, 0.3, 0.6, 0.9)]
    assert radii == pytest.approx(expected, rel=0.03)


def test_a_cloud_is_drawn_point_by_point_in_the_colours_of_the_classes(ax):
    x = torch.tensor([[0.5, 1.0], [-2.0, 0.3], [1.0, -1.0]], requires_grad=True)
    assert plane.cloud(ax, x, torch.tensor([1, 0, 9]), limit=2.5) is ax
    (points,) = ax.collections
    assert np.allclose(points.get_offsets(), x.detach())
    names = [plane.CLASS_COLOURS[k] for k in (1, 0, 9 % len(plane.CLASS_COLOURS))]
    assert np.allclose(points.get_facecolors()[:, :3], [to_rgba(name)[:3] for name in names])
    assert ax.get_xlim() == ax.get_ylim() == (-2.5, 2.5)


def test_a_cloud_without_classes_has_one_colour(ax):
    plane.cloud(ax, torch.rand(4, 2), colour="tab:green")
    assert np.allclose(ax.collections[0].get_facecolors()[:, :3], to_rgba("tab:green")[:3])


def test_arrows_stand_in_their_place_point_along_the_field_and_have_one_length(ax):
    def field(x):
        return torch.stack((2 + x[:, 1], x[:, 0] - 0.5), dim=1)

    assert plane.arrows(ax, field, limit=2.0, n=7) is ax
    quiver = arrow_of(ax)
    drawn = np.stack((quiver.U, quiver.V), axis=1)
    exact = field(torch.as_tensor(quiver.XY, dtype=torch.float32)).numpy()
    assert np.allclose(np.linalg.norm(drawn, axis=1), 1, atol=1e-5)
    assert np.allclose(drawn, exact / np.linalg.norm(exact, axis=1, keepdims=True), atol=1e-4)
    assert len(drawn) >= 45 and np.abs(quiver.XY).max() < 2.0


def test_the_size_of_a_field_is_the_shade_behind_its_arrows(ax):
    peak = torch.tensor(MODE)

    def field(x):
        size = torch.exp(-(x - peak).square().sum(1))
        return torch.stack((0 * size, size), dim=1)

    plane.arrows(ax, field)
    arrow_of(ax).set_visible(False)
    assert darkest(ax, plane.LIMIT) == pytest.approx(MODE, abs=0.15)
    drawn = arrow_of(ax).XY
    assert len(drawn) and (np.linalg.norm(drawn - MODE, axis=1) < np.sqrt(-np.log(0.05)) + 0.2).all()  # none elsewhere


def test_a_field_beyond_the_scale_has_its_darkest_shade_and_no_hole(ax):
    def field(x):  # of size 0 on the left, 4 on the right
        return torch.stack((2 + x[:, 0] * 2 / plane.LIMIT, 0 * x[:, 0]), dim=1)

    plane.arrows(ax, field, top=2.0)
    arrow_of(ax).set_visible(False)
    _, at = pixels(ax)
    shades = [at(x, 0.1) for x in (-2.9, -1.5, 0.1, 1.5, 2.9)]
    assert shades == sorted(shades, reverse=True) and shades[2] == shades[3] == shades[4] < shades[1] < shades[0]


def test_a_field_of_zeros_is_drawn_without_arrows_or_complaint(ax):
    plane.arrows(ax, torch.zeros_like)
    assert len(arrow_of(ax).XY) == 0
    assert darkest(ax, plane.LIMIT) == pytest.approx((0, 0), abs=0.05)  # one shade everywhere


@pytest.fixture
def three():
    figure, axes = plt.subplots(1, 3, figsize=(9, 3), dpi=100)
    yield axes
    plt.close(figure)


EXACT = ExactMarginal(GaussianPath(), petals())


def velocity(x):
    return EXACT.velocity(x, torch.full((len(x),), 0.7))


def test_a_triptych_shares_its_limits_and_its_scale_of_shades(three):
    assert plane.triptych(three, lambda x: 1.3 * velocity(x), velocity, limit=2.5) is three
    assert [ax.get_title() for ax in three] == ["learned", "exact", "difference"]
    scales = [(ax.collections[0].norm.vmin, ax.collections[0].norm.vmax, *ax.collections[0].levels) for ax in three]
    assert scales[0] == scales[1] == scales[2]
    assert scales[0][-1] == pytest.approx(velocity(plane.mesh(2.5, 60)).norm(dim=1).max().item(), rel=1e-5)
    for ax in three:
        assert ax.get_xlim() == ax.get_ylim() == (-2.5, 2.5) and ax.get_aspect() == 1


def test_a_triptych_shows_the_difference_of_learned_and_exact(three):
    off = torch.tensor([0.6, -0.8])
    plane.triptych(three, lambda x: velocity(x) + off, velocity, names=("a", "b", "c"))
    assert [ax.get_title() for ax in three] == ["a", "b", "c"]
    difference = arrow_of(three[2])
    assert np.allclose(np.stack((difference.U, difference.V), axis=1), off, atol=1e-4)  # learned - exact, of length 1
    for ax, field in ((three[0], lambda x: velocity(x) + off), (three[1], velocity)):
        quiver = arrow_of(ax)
        expected = field(torch.as_tensor(quiver.XY, dtype=torch.float32))
        expected = expected / expected.norm(dim=1, keepdim=True)
        assert np.allclose(np.stack((quiver.U, quiver.V), axis=1), expected, atol=1e-3)


def test_a_perfect_field_leaves_an_empty_difference_and_contours_can_be_laid_over_all(three):
    def log_prob(x):
        return EXACT.log_prob(x, torch.full((len(x),), 0.7))

    plane.triptych(three, velocity, velocity, log_prob=log_prob)
    assert len(arrow_of(three[2]).XY) == 0 and len(arrow_of(three[1]).XY) > 100
    lines = [[c for c in ax.collections if getattr(c, "filled", None) is False] for ax in three]
    assert [len(found) for found in lines] == [1, 1, 1]


def test_a_triptych_has_three_panels(three):
    with pytest.raises(ValueError, match=r"zip\(\) argument"):
        plane.triptych(three[:2], velocity, velocity)


def test_routes_start_hollow_end_filled_and_run_through_every_step(ax):
    way = torch.randn(6, 4, 2, generator=torch.Generator().manual_seed(0))
    assert plane.routes(ax, way.clone().requires_grad_(), colour="red") is ax
    assert len(ax.lines) == 4
    for route, line in zip(way.permute(1, 0, 2), ax.lines, strict=True):
        assert np.allclose(line.get_xydata(), route)
    starts, ends = ax.collections
    assert np.allclose(starts.get_offsets(), way[0]) and np.allclose(ends.get_offsets(), way[-1])
    assert np.allclose(starts.get_facecolors(), to_rgba("white"))
    assert np.allclose(ends.get_facecolors()[0][:3], to_rgba("red")[:3])


@pytest.mark.parametrize("label", [0, 1, 2])
def test_a_guided_cloud_stands_over_the_shaded_density_of_its_class_and_the_lines_of_all(ax, label):
    x = EXACT.mixture.means[[label]] + torch.tensor([[0.0, 0.0], [0.1, 0.2]])
    assert plane.guided_cloud(ax, x, label, EXACT) is ax
    shaded, lines, points = ax.collections
    assert shaded.filled and not lines.filled
    assert np.allclose(points.get_offsets(), x)
    assert np.allclose(points.get_facecolors()[:, :3], to_rgba(plane.CLASS_COLOURS[label])[:3])
    points.set_visible(False), lines.set_visible(False)
    assert darkest(ax, plane.LIMIT) == pytest.approx(EXACT.mixture.means[label].tolist(), abs=0.15)
    reach = np.abs(np.concatenate([path.vertices for path in lines.get_paths()])).max(axis=0)
    assert (reach > 1.2).all()  # around all three petals, not one


def test_a_frame_is_square_without_a_grid(ax):
    ax.grid(True)
    assert plane.frame(ax, 1.5) is ax
    assert ax.get_xlim() == ax.get_ylim() == (-1.5, 1.5) and ax.get_aspect() == 1
    assert not any(line.get_visible() for line in ax.get_xgridlines() + ax.get_ygridlines())


def test_points_that_the_frame_cuts_off_are_counted_in_its_corner_those_of_all_clouds(ax):
    x = torch.tensor([[0.0, 0.0], [3.1, 0.0], [0.0, -4.0], [2.9, 2.9]])
    plane.cloud(ax, x, limit=3.0)
    assert [text.get_text() for text in ax.texts] == ["2 outside"]
    plane.guided_cloud(ax, x[1:] / 10, 0, EXACT, limit=3.0)
    plane.cloud(ax, x[1:2], limit=3.0)
    assert [text.get_text() for text in ax.texts] == ["3 outside"]


def test_a_frame_that_holds_all_points_says_nothing(ax):
    x = torch.tensor([[0.5, -4.0], [2.0, 1.0]])
    assert plane.reach(x) == pytest.approx(4.2) and plane.reach(x[1:]) == plane.LIMIT
    assert plane.reach(x[1:], x, least=1.0) == pytest.approx(4.2) and plane.reach(x[1:], least=1.0) == pytest.approx(
        2.1
    )
    plane.cloud(ax, x, limit=plane.reach(x))
    assert not ax.texts
