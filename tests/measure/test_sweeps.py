"""Sweeps ask for every scale once, kinds of guidance are what they are called, and the tables that ship are read."""

import pytest
import torch

from labkit.base.files import read_table
from labkit.base.runtime import seeded_noise
from labkit.data.images import balanced_labels
from labkit.flow.exact import ExactMarginal
from labkit.flow.guidance import guided
from labkit.flow.mixtures import petals
from labkit.flow.paths import GaussianPath
from labkit.measure.against_exact import cloud_quality
from labkit.measure.quality import Quality
from labkit.measure.samples import draw
from labkit.measure.sweeps import PLAIN, kinds_of_guidance, shipped_curve, shipped_curves, sweep

EXACT = ExactMarginal(GaussianPath(), petals())


def test_a_sweep_asks_for_every_scale_once_in_its_order_and_measures_what_comes():
    y, asked = torch.tensor([2, 0]), []

    def sample(w, labels):
        asked.append((w, labels))
        return torch.full((2, 3), w)

    def measure(x, labels):
        assert labels is y
        return x.sum().item()

    found = sweep(sample, measure, (3, 0, 2.5), y)
    assert found == {3.0: 18, 0.0: 0, 2.5: 15} and list(found) == [3.0, 0.0, 2.5]
    assert [w for w, _ in asked] == [3, 0, 2.5] and all(type(w) is float and labels is y for w, labels in asked)


def test_in_the_plane_guidance_raises_accuracy_and_lowers_spread():
    y, noise = balanced_labels(600, 3), seeded_noise(600, 2)

    def sample(w, y):
        return draw(EXACT.velocity, noise, y, w, steps=20, decode=lambda x: x)

    curve = sweep(sample, lambda x, y: cloud_quality(x, y, EXACT), (0, 1, 4), y)
    accuracies, spreads = ([q.accuracy.value for q in curve.values()], [q.spread for q in curve.values()])
    assert accuracies == sorted(accuracies) and accuracies[0] == pytest.approx(1 / 3, abs=0.1)
    assert spreads == sorted(spreads, reverse=True) and spreads[1] == pytest.approx(1, abs=0.1)


def test_the_kinds_of_guidance_are_told_apart_by_where_they_differ():
    y, x = balanced_labels(30, 3), seeded_noise(30, 2).double()
    weak = ExactMarginal(GaussianPath(), petals(along=1.0, across=0.8)).velocity
    kinds = kinds_of_guidance(weak)
    assert list(kinds) == ["guided", "interval", "rescaled", "projected", "autoguided"]
    assert list(kinds_of_guidance()) == list(kinds)[:4]

    def values(t):
        return {
            kind: guided(EXACT.velocity, y, 3.0, **options)(x, x.new_full((30,), t)) for kind, options in kinds.items()
        }

    early, half = values(0.1), values(0.5)
    conditional = EXACT.velocity(x, x.new_full((30,), 0.1), y)
    torch.testing.assert_close(early["interval"], conditional)
    torch.testing.assert_close(half["interval"], half["guided"])
    blind = EXACT.velocity(x, x.new_full((30,), 0.5))
    with_y = EXACT.velocity(x, x.new_full((30,), 0.5), y)
    torch.testing.assert_close(half["guided"], 3 * with_y - 2 * blind)
    torch.testing.assert_close(half["autoguided"], 3 * with_y - 2 * weak(x, x.new_full((30,), 0.5), y))
    different = [half[kind] for kind in ("guided", "rescaled", "projected", "autoguided")]
    assert all(not torch.allclose(a, b, rtol=0.01) for i, a in enumerate(different) for b in different[:i])


def test_the_curve_that_ships_is_the_table_of_plain_guidance():
    curve, real = shipped_curve("mnist-unet")
    rows, card = read_table("mnist-unet-guidance")
    assert list(curve) == [row["w"] for row in rows if row["variant"] == "guided"] and 1.0 in curve
    for row in rows[: len(curve)]:
        quality = curve[row["w"]]
        assert isinstance(quality, Quality) and quality.n == 2000 and quality.accuracy.n == 2000
        assert quality.row().items() <= {key: float(v) if key == "accuracy" else v for key, v in row.items()}.items()
        assert quality.accuracy.low < quality.accuracy.value <= quality.accuracy.high and None not in quality[:-1]
    assert real.n == 2000 and real.accuracy.value > 0.99 and 0.9 < real.spread < 1.1
    assert real.row() == card.details["real digits at the same n"]


def test_the_curves_that_ship_are_the_whole_table():
    curves, real = shipped_curves("mnist-unet")
    rows, _ = read_table("mnist-unet-guidance")
    assert next(iter(curves)) == PLAIN and (curves[PLAIN], real) == shipped_curve("mnist-unet")
    assert {(kind, w) for kind, curve in curves.items() for w in curve} == {(row["variant"], row["w"]) for row in rows}
    assert all(curves[row["variant"]][row["w"]] == Quality.of_row(row) for row in rows)
    assert list(curves) == list(kinds_of_guidance(weak=lambda x, t, y: x))


@pytest.mark.parametrize("name", ["mnist-unet-ablations", "mnist-dit-patches"])
def test_tables_without_spread_are_read_too(name):
    rows, _ = read_table(name)
    for quality in map(Quality.of_row, rows):
        assert quality.spread is None and quality.coverage is not None and quality.accuracy.high <= 1


def test_a_name_without_a_table_is_refused():
    with pytest.raises(ValueError, match=r"no asset is called 'mnist-judge-guidance\.csv'"):
        shipped_curve("mnist-judge")
