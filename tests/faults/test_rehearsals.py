"""Accidents on purpose: kills while a file is written, full disks, folders that cannot be written, no network."""

import errno
import glob
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from labkit.base.files import FOLDER, Card, atomic_write, read_weights, write_weights
from labkit.data import batches
from labkit.flow import ring
from labkit.nn import MLP
from labkit.training import fit, flow_loss
from labkit.training.checkpoint import read_checkpoint

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks, kills and mounts")
STEPS, KILLS = 1200, 20


def train(path, resume=False, steps=STEPS, width=256):
    """A training whose checkpoint, of 3 MB, is replaced after every 50 steps."""
    torch.manual_seed(0)
    stream = batches(*ring(3).sample(256, torch.Generator().manual_seed(0)), 16, torch.Generator().manual_seed(0))
    network = MLP(2, 3, width=width, depth=2)
    how = {"checkpoint": path, "resume": path if resume else None, "checkpoint_seconds": 0.0}
    return fit(network, flow_loss(), stream, steps=steps, lr=1e-3, progress=False, **how)


def test_twenty_kills_while_a_checkpoint_is_written_lose_nothing(tmp_path):
    """Each kill falls when a temporary file is seen; what ends at last equals a training that nobody killed."""
    path, forked, done, left = tmp_path / "run.pt", multiprocessing.get_context("fork"), 0, 0
    temporary = str(tmp_path / ".run.pt.*.tmp")
    whole = train(tmp_path / "other.pt")  # before the forks, which then find loaded what torch loads when first used
    for _ in range(KILLS):
        for old in glob.glob(temporary):
            os.utime(old, (0, 0))  # as if the kill was long ago
        child = forked.Process(target=train, args=(path, True))
        child.start()
        deadline, writing = time.monotonic() + 60, False
        while time.monotonic() < deadline and child.is_alive() and not writing:
            writing = glob.glob(str(tmp_path / f".run.pt.{child.pid}.*.tmp"))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        left += bool(glob.glob(str(tmp_path / f".run.pt.{child.pid}.*.tmp")))
        if path.exists():
            now = len(read_checkpoint(path)["parts"]["history"]["losses"])
            assert now >= done
            done = now
    assert left >= KILLS // 2, "most of the kills fell while a file was being written"
    for old in glob.glob(temporary):
        os.utime(old, (0, 0))
    resumed = train(path, resume=True)
    assert resumed.losses == whole.losses and not glob.glob(temporary)
    for a, b in zip(resumed.ema.parameters(), whole.ema.parameters(), strict=True):
        assert torch.equal(a, b)


def check_full_disk(folder, fill):
    """A disk that is full when the last checkpoint is due: the one before stays, and the error carries the training."""
    path = folder / "run.pt"
    before = train(path, steps=50, width=64).losses
    with fill(), pytest.raises(OSError) as caught:
        train(path, steps=50, width=64)
    assert caught.value.errno in (errno.ENOSPC, errno.EFBIG)
    assert caught.value.history.steps == 50 and not caught.value.history.ema.training
    assert read_checkpoint(path)["parts"]["history"]["losses"] == before
    write_weights(folder / "net.safetensors", {"w": torch.ones(3)}, Card("a", "b", "c"))
    with fill(), pytest.raises((OSError, SafetensorError), match=r"space|large"):
        write_weights(folder / "net.safetensors", {"w": torch.zeros(200_000)}, Card("a", "b", "c"))
    assert read_weights(folder / "net.safetensors")[0]["w"].sum() == 3
    assert not list(folder.glob(".*.tmp"))


class Quota:
    """No file may grow beyond a thousand bytes, as on a full disk; no rights are needed for that."""

    def __enter__(self):
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, self.before[1]))

    def __exit__(self, *_):
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)


def test_a_quota_leaves_the_files_before_and_the_training(tmp_path):
    check_full_disk(tmp_path, Quota)


def mounted(*command):
    if subprocess.run(["mount", *map(str, command)], capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")


def test_a_full_disk_leaves_the_files_before_and_the_training(tmp_path):
    mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path)

    class Filled:
        def __enter__(self):
            free = os.statvfs(tmp_path)
            Path(tmp_path, "filler").write_bytes(b"0" * (free.f_bavail * free.f_frsize))

        def __exit__(self, *_):
            Path(tmp_path, "filler").unlink()

    try:
        check_full_disk(tmp_path, Filled)
    finally:
        subprocess.run(["umount", tmp_path])


EVERYTHING = """
    import torch
    from labkit.base import seeded_noise
    from labkit.data import balanced_labels, mnist32
    from labkit.measure import Judge, draw, shipped_curves
    from labkit.training import load_pretrained, names
    assert len(mnist32("train").images) == 60_000
    for name in names():
        load_pretrained(name)
    shipped_curves("mnist-unet")
    y = balanced_labels(10, 10)
    x = draw(load_pretrained("mnist-unet")[0], seeded_noise(10, 1, 32, 32), y, 3.0, steps=4)
    assert Judge.pretrained().accuracy(x, y).value >= 0.8
    print("drawn")
"""


def run(code, **surroundings):
    """What a fresh Python prints, with other environment variables."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(FOLDER.parent.parent)} | surroundings
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_that_ships_works_without_a_network():
    severed = """
        import socket
        def severed(*given, **named):
            raise OSError("there is no network")
        socket.socket.connect = socket.create_connection = socket.getaddrinfo = severed
    """
    assert run(textwrap.dedent(severed) + textwrap.dedent(EVERYTHING)).endswith("drawn\n")


def test_all_that_ships_works_where_the_home_folder_cannot_be_written():
    assert run(EVERYTHING, HOME="/proc", MPLCONFIGDIR="", XDG_CACHE_HOME="/proc").endswith("drawn\n")


def test_all_that_ships_works_in_a_tree_that_cannot_be_written():
    tree = FOLDER.parent
    inside = "mount --bind {0} {0} && mount -o remount,ro,bind {0} && ! touch {0}/assets/x 2>/dev/null && exec {1}"
    if subprocess.run(["unshare", "-m", "sh", "-c", inside.format(tree, "true")], capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(tree.parent)}
    command = ["unshare", "-m", "sh", "-c", inside.format(tree, f'{sys.executable} -c "$CODE"')]
    done = subprocess.run(
        command, env=environment | {"CODE": textwrap.dedent(EVERYTHING)}, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.endswith("drawn\n"), done.stderr


def in_threads(work, count=3):
    """What `count` threads that begin together bring, result or error."""
    start, found = threading.Barrier(count), [None] * count

    def one(k):
        start.wait()
        try:
            found[k] = work(k)
        except Exception as error:
            found[k] = error

    threads = [threading.Thread(target=one, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_three_threads_that_write_one_file_leave_one_whole_file(tmp_path):
    def write(k):
        for _ in range(50):
            with atomic_write(tmp_path / "file") as temporary:
                temporary.write_bytes(bytes([k]) * 100_000)

    assert in_threads(write) == [None] * 3
    content = (tmp_path / "file").read_bytes()
    assert len(content) == 100_000 and len(set(content)) == 1 and len(list(tmp_path.iterdir())) == 1


def test_of_three_threads_that_train_on_one_checkpoint_one_does(tmp_path):
    held, entered = threading.Event(), threading.Event()

    class Slow(batches):
        def __next__(self):
            entered.set()
            held.wait(30)
            return super().__next__()

    def train_on(stream):
        return fit(MLP(2, 3, width=8), flow_loss(), stream, steps=2, lr=1e-3, progress=False,
                   checkpoint=tmp_path / "run.pt")  # fmt: skip

    data = ring(3).sample(32, torch.Generator().manual_seed(0))
    first = threading.Thread(target=lambda: found.append(train_on(Slow(*data, 8))))
    found = []
    first.start()
    assert entered.wait(30)
    others = in_threads(lambda k: train_on(batches(*data, 8)), 2)
    held.set()
    first.join()
    assert all(isinstance(other, ValueError) and "written by another training" in str(other) for other in others)
    assert found[0].steps == 2 and read_checkpoint(tmp_path / "run.pt")
