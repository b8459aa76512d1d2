"""For the tests of reading data: a small folder in the format of VTAB-1K. No torch: it may not be installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def vtab(tmp_path: Path) -> Path:
    """Two classes; 8 train, 4 val, 6 test images of noise, no two alike."""
    folder, random = tmp_path / "eurosat_small", np.random.default_rng(0)
    for split, count in {"train800": 8, "val200": 4, "test": 6}.items():
        (folder / "images" / split).mkdir(parents=True)
        for i in range(count):
            pixels = random.integers(0, 256, (40, 44, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"images/{split}/{i}.png")
        (folder / f"{split}.txt").write_text("".join(f"images/{split}/{i}.png {i % 2}\n" for i in range(count)))
    (folder / "labels.txt").write_text("field\nriver bank\n")
    return folder
