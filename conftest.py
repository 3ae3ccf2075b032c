"""How pytest runs the notebooks here: with nbval, in the fast profile, and without waiting for the dead.

`pytest` and `pytest --nbval-lax notebooks` do the same to a notebook, because everything is set here. Three traps of
nbval 0.11 are closed: it does not notice that a kernel died (it waits for the cell's timeout), it gives up on a cell
that prints nothing for 5 seconds after its end, and it goes on with the next cells after a hang.
"""

import os
import time
from queue import Empty

import pytest

MESSAGE_TIMEOUT = 60  # seconds between the end of a cell and its last output
UNSET_TIMEOUT = 2000  # nbval's own default

collect_ignore = ["notebooks/student"]  # their blanks raise; tests/course/test_unsolved.py runs them

# Two workers run side by side: one thread each, for their kernels too, since two threads each slow both down.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# Kernels inherit the environment. A profile set by hand wins, and gets the time to train.
os.environ.setdefault("LABKIT_PROFILE", "fast")
CELL_TIMEOUT = 300 if os.environ["LABKIT_PROFILE"] == "fast" else 1200  # seconds a cell may take

try:
    from nbval.kernel import RunningKernel
    from nbval.plugin import IPyNbCell
except ImportError:  # installed without [test]: unit tests that need no notebook still run
    IPyNbCell = None
else:
    get_message = RunningKernel.get_message

    def get_message_while_alive(self, stream, timeout=None):
        """nbval's `get_message`, a second at a time, so that a dead kernel is noticed at once."""
        deadline = time.monotonic() + (CELL_TIMEOUT if timeout is None else timeout)
        while True:
            try:
                return get_message(self, stream, timeout=min(1.0, max(0.0, deadline - time.monotonic())))
            except Empty:
                if not self.is_alive():
                    raise RuntimeError("the kernel died in this cell") from None
                if time.monotonic() >= deadline:
                    raise

    RunningKernel.get_message = get_message_while_alive


def pytest_configure(config):
    if not hasattr(config.option, "nbval"):
        return
    if not config.option.nbval:
        config.option.nbval_lax = True
    if not config.option.nbval_kernel_name:
        config.option.nbval_current_env = True
    if config.option.nbval_cell_timeout == UNSET_TIMEOUT:
        config.option.nbval_cell_timeout = CELL_TIMEOUT


def pytest_collection_modifyitems(items):
    for item in items:
        if IPyNbCell and isinstance(item, IPyNbCell):
            item.output_timeout = MESSAGE_TIMEOUT


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    stopped = getattr(item.parent, "stopped", None)
    if stopped:
        pytest.skip(f"not run: {stopped}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if IPyNbCell and isinstance(item, IPyNbCell) and report.failed and not hasattr(item.parent, "stopped"):
        kernel = item.parent.kernel
        if item.parent.timed_out:
            item.parent.stopped = f"{item.name} of this notebook hung"
        elif kernel is None or not kernel.is_alive():
            item.parent.stopped = f"the kernel of this notebook died in {item.name}"
    return report
