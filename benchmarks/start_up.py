"""How long a notebook waits before its first line of mathematics: `python benchmarks/start_up.py`.

Each figure is the median of five fresh processes. The yardstick is `import torch`, which nothing here can avoid.
"""

import statistics
import subprocess
import sys

TIMED = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"
CASES = {
    "import torch": ("", "import torch"),
    "import labkit": ("", "import labkit"),
    'mnist32("train"), torch already there': ("import torch; ", 'from labkit.data import mnist32; mnist32("train")'),
}


def seconds(before: str, statement: str) -> float:
    command = [sys.executable, "-c", before + TIMED.format(statement)]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(5)]
    return statistics.median(map(float, runs))


def main() -> None:
    measured = {name: seconds(*case) for name, case in CASES.items()}
    for name, value in measured.items():
        print(f"{name:40s} {value:8.4f} s   {value / measured['import torch']:6.3f} of import torch")


if __name__ == "__main__":
    main()
