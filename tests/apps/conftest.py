"""Fixtures for the tests of real programs."""

import os

import pytest

pytest.register_assert_rewrite("apps.serving")


@pytest.fixture(scope="session")
def without_uvloop(tmp_path_factory):
    """What to add to the environment of a program so that it finds no uvloop."""
    folder = tmp_path_factory.mktemp("without-uvloop")
    (folder / "uvloop.py").write_text("raise ImportError('not for this program')\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
