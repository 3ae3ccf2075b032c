"""Checkpoints: what does not fit is refused with the reason, and then nothing has changed."""

import copy

import pytest
import torch

from labkit.training.checkpoint import Checkpoint, RandomState, read_checkpoint

SETTINGS = {"steps": 3, "lr": 0.1}


def parts(size=2, value=1.0):
    """Two modules and a generator."""
    made = {"model": torch.nn.Linear(size, 1), "history": torch.nn.Linear(size, size)}
    for module in made.values():
        torch.nn.init.constant_(module.weight, value)
    return made | {"random": RandomState(torch.device("cpu"))}


def states(made):
    return copy.deepcopy({name: part.state_dict() for name, part in made.items()})


def equal(a, b):
    return all(torch.equal(a[name][key], b[name][key]) for name in a for key in a[name])


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "run.pt"
    Checkpoint(parts(), SETTINGS).save(path)
    return path


def test_every_part_comes_back_and_random_numbers_go_on(tmp_path):
    path, made = tmp_path / "run.pt", parts(value=3.0)
    torch.manual_seed(0)
    torch.rand(5)
    Checkpoint(made, SETTINGS).save(path)
    was, expected = states(made), torch.rand(3)
    other = parts(value=5.0)
    torch.manual_seed(1)
    Checkpoint(other, SETTINGS).load(read_checkpoint(path), path)
    assert equal(states(other), was) and torch.equal(torch.rand(3), expected)


def broken(file, change):
    state = torch.load(file, weights_only=True)
    change(state)
    torch.save(state, file)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s["settings"].update(lr=0.5), r"run\.pt is from another training: it has .*0\.5.* this one .*0\.1"),
        (lambda s: s["parts"].pop("random"), "to resume, random must have state_dict and load_state_dict"),
        (lambda s: s["parts"]["history"].update(weight=torch.zeros(7)), "its history does not fit: .*size mismatch"),
        (lambda s: s["parts"]["history"].pop("bias"), "its history does not fit: .*Missing key"),
        (lambda s: s["parts"]["random"].pop("cpu"), "its random does not fit: 'cpu'"),
        (lambda s: s["parts"]["random"].update(cpu=torch.zeros(2)), "its random does not fit: "),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason_and_then_no_part_has_changed(file, change, words):
    broken(file, change)
    made = parts(value=7.0)
    before = states(made)
    with pytest.raises(ValueError, match=f"(?s){words}"):
        Checkpoint(made, SETTINGS).load(read_checkpoint(file), file)
    assert equal(states(made), before)


def test_a_part_that_cannot_be_saved_is_left_out_and_refused_when_it_is_missed(file):
    made = parts() | {"stream": iter([])}
    Checkpoint(made, SETTINGS).save(file)
    assert "stream" not in read_checkpoint(file)["parts"]
    with pytest.raises(ValueError, match="to resume, stream must have state_dict and load_state_dict"):
        Checkpoint(made, SETTINGS).load(read_checkpoint(file), file)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no checkpoint", "is no checkpoint that can be read: "),
        (torch.zeros(3), "is no checkpoint that this version of fit wrote"),
        ({"settings": {}, "parts": {}}, "is no checkpoint that this version of fit wrote"),
        ({"parts": {"history": {}}}, "is no checkpoint that this version of fit wrote"),
        ({"settings": {}, "losses": [], "precision": "float32"}, "is no checkpoint that this version of fit wrote"),
    ],
)
def test_another_file_is_refused_by_name(file, content, words):
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    with pytest.raises(ValueError, match=rf"run\.pt {words}"):
        read_checkpoint(file)


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"resume='.*nowhere\.pt' is no file"):
        read_checkpoint(tmp_path / "nowhere.pt")
