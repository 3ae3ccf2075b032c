"""`Quality`, the one record of what was measured of samples: in the plane and of images, in tables and in widgets."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from labkit.measure.metrics import Share

WORDS = {"frechet": "Fréchet distance", "vendi": "Vendi score"}  # how a figure is called where not by its own name


class Quality(NamedTuple):
    """What was measured of n samples, None what was not. A figure says little without that of real data at the same n.

    accuracy: share that shows the class asked for, with its 95% interval.
    spread: standard deviation within a class divided by the real one; 1 is as varied as real data.
    frechet: Fréchet distance of the judge's features to those of its real images, at least 0.
    density: about 1 for real data; falls when samples look like nothing real.
    coverage: in [0, 1], 1 - 2^-5 = .97 expected for real data; falls when kinds are missing.
    vendi: effective number of different samples of a class divided by that of as many real ones; mean over classes.
    typical: share inside the region that holds 95% of the class, where the exact density is known; .95 for real data.
    """

    n: int
    accuracy: Share
    spread: float | None = None
    frechet: float | None = None
    density: float | None = None
    coverage: float | None = None
    vendi: float | None = None
    typical: float | None = None

    def __str__(self) -> str:
        figures = [f"{WORDS.get(name, name)} {value:.2f}" for name, value in self._others().items()]
        return ", ".join([f"accuracy {self.accuracy}", *figures, f"n={self.n:,}"])

    def row(self) -> dict[str, float]:
        """The figures as a flat row of a table, without those that were not measured."""
        value, low, high, _ = self.accuracy
        return {"n": self.n, "accuracy": value, "accuracy_low": low, "accuracy_high": high} | self._others()

    @classmethod
    def of_row(cls, row: Mapping[str, float]) -> "Quality":
        """What `row()` wrote; other columns are passed over. Raises KeyError without n, accuracy and its interval."""
        accuracy = Share(*(float(row[key]) for key in ("accuracy", "accuracy_low", "accuracy_high")), row["n"])
        return cls(row["n"], accuracy, *(row.get(name) for name in cls._fields[2:]))

    def _others(self) -> dict[str, float]:
        return {name: value for name, value in zip(self._fields[2:], self[2:], strict=True) if value is not None}


def rounded(figures: dict[str, Any]) -> dict[str, Any]:
    """The same figures with floats cut to five decimals, for cards."""
    return {key: round(value, 5) if isinstance(value, float) else value for key, value in figures.items()}
