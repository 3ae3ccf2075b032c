"""Files with cards: damage is refused by name, and an interrupted write leaves the old file whole."""

import hashlib
import json
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
import torch

import labkit
from labkit.base import files as assets
from labkit.base.files import (
    Card,
    asset,
    atomic_write,
    card_path,
    provenance,
    read_card,
    read_table,
    read_weights,
    write_card,
    write_table,
    write_weights,
)
from labkit.base.runtime import machine

CARD = Card(title="A title", source="a source, with an é", licence="MIT", details={"steps": 3, "losses": [1.5, 0.5]})
ROOT = Path(labkit.__file__).parent.parent
SHIPPED = sorted(path.name.removesuffix(".json") for path in assets.FOLDER.glob("*.json"))
ROWS = [
    {"w": 1.5, "n": 2000, "name": "as in the lesson", "loss": 0.11888},
    {"w": -3.0, "n": 0, "name": 'a "quoted", é one', "loss": 1.25e-9},
]


def write_file(folder, name="digits.bin", content=b"0123456789" * 100):
    """A file with its card in `folder`."""
    path = folder / name
    path.write_bytes(content)
    write_card(path, CARD)
    return path


def weights():
    """A state dict of several types and layouts."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(3, 4, generator=generator)
    return {
        "plain": matrix,
        "transposed": torch.randn(3, 4, generator=generator).T,
        "parameter": torch.nn.Parameter(torch.randn(2, generator=generator)),
        "double": torch.randn(2, 1, dtype=torch.float64, generator=generator),
        "half": torch.randn(5, generator=generator).bfloat16(),
        "count": torch.tensor(7),
    }


def flip_byte(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def test_mnist_ships():
    assert "mnist.npz" in SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_file_has_the_sha256_of_its_card_and_a_licence(name):
    path = asset(name)
    card = json.loads((assets.FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert path == assets.FOLDER / name
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert card["title"] and card["source"] and card["licence"]


def test_an_unknown_asset_is_refused_with_the_names_that_exist(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match=r"no asset is called 'cifar\.npz'; the assets are .*mnist\.npz"):
        asset("cifar.npz")
    write_file(tmp_path, "a.bin"), write_file(tmp_path, "b.bin")
    monkeypatch.setattr(assets, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match=r"no asset is called 'mnist\.npz'; the assets are a\.bin, b\.bin$"):
        asset("mnist.npz")


def test_a_flipped_byte_in_a_copy_of_mnist_is_refused_by_name(monkeypatch, tmp_path):
    for name in ("mnist.npz", "mnist.npz.json"):
        shutil.copy(assets.FOLDER / name, tmp_path)
    monkeypatch.setattr(assets, "FOLDER", tmp_path)
    path = asset("mnist.npz")
    flip_byte(path, 5_000_000)
    with pytest.raises(ValueError, match=r"mnist\.npz is damaged or not the file its card describes"):
        asset("mnist.npz")
    flip_byte(path, 5_000_000)
    assert asset("mnist.npz") == path


@pytest.mark.parametrize("position", [0, 500, -1])
def test_every_byte_counts(tmp_path, position):
    path = write_file(tmp_path)
    flip_byte(path, position)
    found = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    with pytest.raises(ValueError, match=rf"digits\.bin is damaged.*sha256 begins {found}, the card says [0-9a-f]+\."):
        read_card(path)


def test_a_truncated_file_is_refused_by_name(tmp_path):
    path = write_file(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"digits\.bin is damaged"):
        read_card(path)


def test_a_missing_card_and_a_missing_file_are_told_apart(tmp_path):
    path = write_file(tmp_path)
    card_path(path).unlink()
    with pytest.raises(ValueError, match=r"digits\.bin has no card: .*digits\.bin\.json is missing"):
        read_card(path)
    write_card(path, CARD)
    path.unlink()
    with pytest.raises(ValueError, match=r"digits\.bin is missing"):
        read_card(path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b'{"title": "no more"}', b'{"title": "a", "colour": "b"}', b'{"title": "caf\xe9"}']
)
def test_what_is_no_card_is_refused_by_name(tmp_path, content):
    path = write_file(tmp_path)
    card_path(path).write_bytes(content)
    with pytest.raises(ValueError, match=r"digits\.bin\.json is no card: "):
        read_card(path)


def test_a_card_comes_back_as_it_was_written_with_the_sha256_filled_in(tmp_path):
    expected = replace(CARD, sha256=hashlib.sha256(b"0123456789" * 100).hexdigest())
    assert read_card(write_file(tmp_path)) == expected


def test_an_atomic_write_replaces_the_file_only_at_the_end(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"
    for old, new in ((None, "first"), ("first", "second")):
        with atomic_write(path) as temporary:
            temporary.write_text(new)
            assert (path.read_text() if path.exists() else None) == old
        assert path.read_text() == new
    assert listing(path.parent) == ["file.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as temporary:
        temporary.write_text("half of the ne")
        raise error
    assert path.read_text() == "old" and listing(tmp_path) == ["file.txt"]


def test_weights_come_back_bit_for_bit_with_their_card(tmp_path):
    path = tmp_path / "model.safetensors"
    written = write_weights(path, weights(), CARD)
    state_dict, card = read_weights(path)
    assert card == written and card.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert state_dict.keys() == weights().keys()
    for name, value in weights().items():
        assert state_dict[name].dtype == value.dtype and torch.equal(state_dict[name], value.detach())
    assert listing(tmp_path) == ["model.safetensors", "model.safetensors.json"]


def test_weights_whose_writing_fails_leave_the_old_ones_readable(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    write_weights(path, {"w": torch.ones(3)}, CARD)

    def full_disk(_, temporary):
        temporary.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_weights(path, {"w": torch.zeros(3)}, CARD)
    assert torch.equal(read_weights(path)[0]["w"], torch.ones(3))
    assert listing(tmp_path) == ["model.safetensors", "model.safetensors.json"]


@pytest.mark.parametrize("content", [b"", b"I am a text", b"\x80\x02" + bytes(200)], ids=["empty", "text", "pickle"])
def test_a_foreign_file_with_a_matching_card_is_still_no_weights(tmp_path, content):
    path = write_file(tmp_path, "model.safetensors", content)
    with pytest.raises(ValueError, match=r"model\.safetensors is no safetensors file"):
        read_weights(path)


def test_damaged_weights_are_refused_by_name(tmp_path):
    path = tmp_path / "model.safetensors"
    write_weights(path, weights(), CARD)
    flip_byte(path, -1)
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        read_weights(path)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder in the place of the assets."""
    monkeypatch.setattr(assets, "FOLDER", tmp_path)
    return tmp_path


def test_a_table_comes_back_with_its_numbers_its_words_and_its_card(folder):
    written = write_table(folder / "sweep.csv", ROWS, CARD)
    rows, card = read_table("sweep")
    assert rows == ROWS and [list(row) for row in rows] == [list(row) for row in ROWS]
    assert [type(value) for value in rows[0].values()] == [
        int if row == 2000 else type(row) for row in ROWS[0].values()
    ]
    assert card == written == replace(CARD, sha256=hashlib.sha256((folder / "sweep.csv").read_bytes()).hexdigest())
    assert listing(folder) == ["sweep.csv", "sweep.csv.json"]


def test_floats_keep_six_significant_digits_and_integers_all_of_theirs(folder):
    values = {"third": 1 / 3, "large": 123456789.0, "small": -1.23456789e-12, "count": 123456789}
    write_table(folder / "digits.csv", [values], CARD)
    ((row,), _) = read_table("digits")
    assert row == {"third": 0.333333, "large": 1.23457e8, "small": -1.23457e-12, "count": 123456789}
    assert type(row["count"]) is int and type(row["third"]) is float


def test_a_table_is_the_same_file_on_every_system(folder):
    write_table(folder / "sweep.csv", ROWS, CARD)
    text = (folder / "sweep.csv").read_bytes().decode("utf-8")
    assert text.splitlines() == ["w,n,name,loss", "1.5,2000,as in the lesson,0.11888", text.splitlines()[2]]
    assert "\r" not in text and text.endswith("\n")


@pytest.mark.parametrize("rows", [[], [{"a": 1}, {"b": 1}], [{"a": 1}, {"a": 1, "b": 2}], [{"a": 1, "b": 2}, {"a": 1}]])
def test_a_table_without_rows_or_of_uneven_rows_is_refused_before_anything_is_written(folder, rows):
    with pytest.raises(ValueError, match="rows must be at least one dict, and all must have the same keys"):
        write_table(folder / "sweep.csv", rows, CARD)
    assert listing(folder) == []


def test_a_table_whose_writing_fails_leaves_the_old_one(folder):
    write_table(folder / "sweep.csv", ROWS, CARD)

    class Unwritable:
        def __str__(self):
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        write_table(folder / "sweep.csv", [{"a": 1}, {"a": Unwritable()}], CARD)
    assert read_table("sweep")[0] == ROWS and listing(folder) == ["sweep.csv", "sweep.csv.json"]


@pytest.mark.parametrize("position", [0, 20, -2])
def test_a_changed_byte_of_a_table_is_refused_by_name(folder, position):
    write_table(folder / "sweep.csv", ROWS, CARD)
    flip_byte(folder / "sweep.csv", position)
    with pytest.raises(ValueError, match=r"sweep\.csv is damaged or not the file its card describes"):
        read_table("sweep")


def test_an_unknown_table_is_refused_with_the_names_that_exist(folder):
    write_table(folder / "sweep.csv", ROWS, CARD)
    with pytest.raises(ValueError, match=r"no asset is called 'nope\.csv'; the assets are sweep\.csv$"):
        read_table("nope")


def test_a_figure_says_on_which_day_and_machine_and_by_which_code_it_was_made(folder):
    (folder / ".git").write_text("no checkout")
    began = provenance(torch.device("cpu"))
    assert list(began) == ["started", "machine", "revision"] and began["revision"] == "unknown"
    assert date.fromisoformat(began["started"]) <= date.today() and began["machine"] == machine(torch.device("cpu"))


def test_every_shipped_table_reads_and_its_card_names_the_command_that_wrote_it():
    for name in sorted(path.stem for path in assets.FOLDER.glob("*.csv")):
        rows, card = read_table(name)
        assert rows and all(row.keys() == rows[0].keys() for row in rows)
        assert all(value not in ("", "nan", None) and value == value for row in rows for value in row.values())
        script = card.source.split()[1]
        assert card.source.startswith("python benchmarks/") and (ROOT / script).is_file() and card.details
