"""Where the shipped data lies: in the checkout, beside the package; and where the user's does."""

import os
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


def data_folder() -> Path | None:
    """The folder of the user's data sets and weights, named by the environment variable PETL_DATA; None if unset."""
    named = os.environ.get("PETL_DATA", "")
    return Path(named).expanduser() if named else None
