"""Where environment_test.py puts things. Imported first: it also finds the modules of other tests."""

import pathlib
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "processes"), str(HERE.parent / "launchers")]

import report  # noqa: E402

BIN = report.ROOT / "build" / "envs" / "torch" / "bin"
READY = BIN.parent / "hora-installed"


def wheel_folder(build):
    return build / "wheel"


def wheel(build):
    wheels = sorted(wheel_folder(build).glob("hora-*.whl"))
    assert len(wheels) == 1, wheels
    return wheels[0]


def require():
    if not READY.exists():
        raise unittest.SkipTest("no environment with PyTorch and hora (environment_test tells why)")
