"""Unit tests work on small tensors, where a second thread costs more than it helps, and in float32 on every CPU."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    monkeypatch.setenv("LABKIT_PRECISION", "float32")
