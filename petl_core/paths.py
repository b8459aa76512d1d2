"""Where the shipped data lies: in the checkout, beside the package."""

from pathlib import Path


def _data() -> Path:
    """``data/`` beside the package or, if that was installed without it (pip install .), in the checkout worked in."""
    beside = Path(__file__).resolve().parent.parent / "data"
    here = Path.cwd()
    checkouts = (folder / "data" for folder in (here, *here.parents) if (folder / "petl_core" / "paths.py").is_file())
    return next((folder for folder in (beside, *checkouts) if (folder / "embedded").is_dir()), beside)


DATA = _data()
EMBEDDED = DATA / "embedded"
RESULTS = DATA / "results"
PUBLISHED = DATA / "published"
