"""Unit tests work on small tensors, where a second thread costs more than it helps."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)
