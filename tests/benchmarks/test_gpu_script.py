"""The script for everything that needs a GPU is rehearsed without one: a loan of minutes is no time for mending it."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(os.name != "posix", reason="a shell script")
def test_pieces_run_with_tiny_numbers_and_bring_back_their_figures(tmp_path):
    """Those that write nothing into the assets; one that does not exist fails by its name and stops nothing."""
    environment = os.environ | {"GPU_SH_TINY": "1", "PYTHON": sys.executable, "LABKIT_DEVICE": "cpu"}
    command = ["bash", "benchmarks/gpu.sh", tmp_path, "screen", "no-such-piece", "speed10"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.txt", "results.tar.gz"]
    end = (tmp_path / "log.txt").read_text(encoding="utf-8").split("=== what became of each")[1]
    assert (
        "screen     exit   0" in end and "speed10    exit   0" in end and "no-such-piece: no piece is called so" in end
    )
    with tarfile.open(tmp_path / "results.tar.gz") as packed:
        assert {"json/screen.json", "json/speed10.json"} < set(packed.getnames())
