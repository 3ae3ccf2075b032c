"""Checkpoints: what does not fit is refused with the reason, and then nothing has changed."""

import copy
import os
import subprocess
import sys

import pytest
import torch

from labkit.training.checkpoint import Checkpoint, RandomState, owned, read_checkpoint, write_state

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
    state = read_checkpoint(file)
    change(state)
    write_state(file, state)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s["settings"].update(lr=0.5), r"run\.pt is from another training: it has .*0\.5.* this one .*0\.1"),
        (lambda s: s["parts"].pop("random"), "from another training: it has no random"),
        (lambda s: s["parts"]["history"].update(weight=torch.zeros(7)), "its history does not fit: .*size mismatch"),
        (lambda s: s["parts"]["history"].pop("bias"), "its history does not fit: .*Missing key"),
        (lambda s: s["parts"]["model"].update(bias=torch.tensor([torch.nan])), "holds weights that are inf or NaN"),
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


def test_one_flipped_byte_is_found_wherever_it_is(file):
    Checkpoint(parts(), SETTINGS).save(file)
    content = file.read_bytes()
    for place in range(0, len(content), len(content) // 40):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ValueError, match="is damaged"):
            read_checkpoint(file)
    for some in (b"", content[:20], content[:-1]):
        file.write_bytes(some)
        with pytest.raises(ValueError, match="is damaged"):
            read_checkpoint(file)


def test_two_trainings_do_not_write_one_checkpoint_and_a_killed_one_holds_nothing(file):
    code = f"from labkit.training.checkpoint import owned, Path\nwith owned(Path({str(file)!r})): print(1, flush=True)"
    code += "; input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"1\n"
        with pytest.raises(ValueError, match="is being written by another training"), owned(file):
            pass
        other.kill()
    with owned(file):  # its lock file is still there, and means nothing
        with pytest.raises(ValueError, match="is being written"), owned(file):
            pass
    with owned(file):
        pass
    assert not file.with_name(f".{file.name}.lock").exists()


def test_what_killed_processes_left_goes_and_what_others_write_stays(file):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        left, written = (file.with_name(f".{file.name}.{pid}.1.tmp") for pid in (2**22 - 3, other.pid))
        for path in (left, written, file.with_name(f".{file.name}.of.strangers.tmp")):
            path.touch()
            os.utime(path, (0, 0))
        Checkpoint(parts(), SETTINGS).save(file)
        assert not left.exists() and written.exists()
        other.communicate(b"\n")
    Checkpoint(parts(), SETTINGS).save(file)
    assert not written.exists() and len(list(file.parent.iterdir())) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no checkpoint", "is damaged"),
        (torch.zeros(3), "is no checkpoint that this version of fit wrote"),
        ({"settings": {}, "parts": {}}, "is no checkpoint that this version of fit wrote"),
        ({"parts": {"history": {}}}, "is no checkpoint that this version of fit wrote"),
        ({"settings": {}, "losses": [], "precision": "float32"}, "is no checkpoint that this version of fit wrote"),
    ],
)
def test_another_file_is_refused_by_name(file, content, words):
    file.write_bytes(content) if isinstance(content, bytes) else write_state(file, content)
    with pytest.raises(ValueError, match=rf"run\.pt {words}"):
        read_checkpoint(file)


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"resume='.*nowhere\.pt' is no file"):
        read_checkpoint(tmp_path / "nowhere.pt")
