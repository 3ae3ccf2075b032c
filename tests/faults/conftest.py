"""Nothing that is tried here changes what other tests find: neither style nor random numbers."""

import matplotlib.pyplot as plt
import pytest

from labkit.course.checks.require import seeded


@pytest.fixture(autouse=True)
def apart():
    with plt.rc_context(), seeded(0):
        yield
