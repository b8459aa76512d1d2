"""``import petl_core as pc``: quick, every public name, and what has moved."""

import subprocess
import sys

import pytest

import petl_core as pc


def test_every_public_name_is_there_and_the_packages_do_not_hide_functions():
    import petl_core.compare.search
    import petl_core.training.train  # noqa: F401

    assert all(getattr(pc, name) is not None for name in pc.__all__)
    assert callable(pc.compare) and callable(pc.train) and pc.methods.names()


def test_the_import_loads_no_torch():
    code = "import sys, petl_core; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["records", "report.claims", "model", "errors"])
def test_a_module_that_moved_says_where(name):
    with pytest.raises(ModuleNotFoundError, match=pc.MOVED[name.partition(".")[0]]):
        __import__(f"petl_core.{name}")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nosuch"):
        pc.nosuch  # noqa: B018
