"""Where the shipped data lies: beside the package, in the checkout."""

from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "data"
EMBEDDED = DATA / "embedded"
RESULTS = DATA / "results"
PUBLISHED = DATA / "published"
