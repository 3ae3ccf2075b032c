"""The record of figures: its text, its rows, and the way back through a table on disk."""

import pytest

from labkit.base import files
from labkit.base.files import Card, read_table, write_table
from labkit.measure.metrics import Share, share
from labkit.measure.quality import Quality, rounded

FULL = Quality(1000, share(974, 1000), 1.0184, 0.65287, 0.83262, 0.91253, 1.15119)
CLOUD = Quality(500, share(431, 500), 0.97)


def test_a_record_says_what_was_measured_and_nothing_else():
    assert str(FULL) == (
        "accuracy 97.4% (96.2% to 98.2%), spread 1.02, Fréchet distance 0.65, density 0.83, coverage 0.91, "
        "Vendi score 1.15, n=1,000"
    )
    assert str(CLOUD) == f"{CLOUD}" == "accuracy 86.2% (82.9% to 88.9%), spread 0.97, n=500"


def test_a_row_names_the_interval_by_what_it_is_of_and_leaves_out_what_was_not_measured():
    assert CLOUD.row() == {
        "n": 500,
        "accuracy": 0.862,
        "accuracy_low": CLOUD.accuracy.low,
        "accuracy_high": CLOUD.accuracy.high,
        "spread": 0.97,
    }
    assert list(FULL.row()) == [*CLOUD.row(), "frechet", "density", "coverage", "vendi"]
    assert Quality(3, share(3, 3), spread=0.0).row()["spread"] == 0  # zero is a figure too


@pytest.mark.parametrize("quality", [FULL, CLOUD, Quality(7, share(0, 7))], ids=["image", "cloud", "accuracy alone"])
def test_a_record_comes_back_from_its_row(quality):
    assert Quality.of_row(quality.row()) == quality
    assert Quality.of_row({"variant": "guided", "w": 3.0} | quality.row()) == quality
    assert isinstance(Quality.of_row(quality.row()).accuracy, Share)


def test_a_record_comes_back_from_a_table_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "FOLDER", tmp_path)
    whole = Quality(50, share(50, 50), 1.0, 2.0, 3.0, 1.0)  # whole numbers are written without a point
    write_table(tmp_path / "a.csv", [{"w": 1.0} | whole.row()], Card("a", "a test", "MIT"))
    (row,), _ = read_table("a")
    back = Quality.of_row(row)
    assert back.accuracy == pytest.approx(whole.accuracy, rel=1e-5) and type(back.accuracy.value) is float
    assert back[2:6] == whole[2:6] and back.vendi is None


@pytest.mark.parametrize("missing", ["n", "accuracy", "accuracy_low", "accuracy_high"])
def test_a_row_without_an_accuracy_is_no_record(missing):
    row = FULL.row()
    del row[missing]
    with pytest.raises(KeyError, match=f"'{missing}'"):
        Quality.of_row(row)


def test_figures_are_rounded_for_cards_and_whole_numbers_stay():
    assert rounded({"n": 1000, "a": 1 / 3, "name": "x"}) == {"n": 1000, "a": 0.33333, "name": "x"}
