"""Time and memory of the analyses of predictions at the size of a large study: ``make bench``, or this file.

Records of 20 methods x 20 tasks x 5 seeds, each with logits of 10,000 images and 100 classes, are drawn (not trained:
only their size matters), and everything that chapter 05 computes from predictions is computed. Reading is counted; what
a record's file would take to decompress is not, because the logits are made in memory when they are asked for.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import pandas as pd

from petl_guide.mistakes import mistakes


class Drawn:
    """Stands for ``Records``: logits that depend on the method and the seed, drawn when asked for."""

    def __init__(self, images: int, classes: int) -> None:
        self.labels = np.random.default_rng(0).integers(0, classes, images)
        self.ids = tuple(map(str, range(images)))
        self.shape = (images, classes)

    def predictions(self, digest: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        random = np.random.default_rng(abs(hash(digest)) % 2**32)
        logits = random.standard_normal(self.shape, dtype=np.float32)
        logits[np.arange(len(self.labels)), self.labels] += 2.0
        return logits.astype(np.float16), self.labels, self.ids


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for name, default in (("methods", 20), ("tasks", 20), ("seeds", 5), ("images", 10_000), ("classes", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    rows = [
        {"task": f"task{t}", "method": f"method{m}", "seed": s, "digest": f"{t}/{m}/{s}", "diverged": False}
        for t in range(options.tasks)
        for m in range(options.methods)
        for s in range(options.seeds)
    ]
    found = mistakes.load(Drawn(options.images, options.classes), pd.DataFrame(rows))  # type: ignore[arg-type]
    start, reading = time.perf_counter(), 0.0
    tables = []
    for task in found:
        before = time.perf_counter()
        part = found[task]
        reading += time.perf_counter() - before
        tables.append(mistakes.everything({task: part}))
        del part
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    size = f"{options.methods} methods x {options.tasks} tasks x {options.seeds} seeds"
    print(f"analyses of {size} of {options.images:,} x {options.classes} logits: {seconds - reading:.1f} s")
    print(f"  (and {reading:.1f} s to draw the logits); peak memory {peak:.2f} GB; asked for: 60 s, 2 GB")
    assert len(tables) == options.tasks and all(len(table) == 4 for table in tables)


if __name__ == "__main__":
    main()
