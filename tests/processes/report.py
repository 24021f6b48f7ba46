"""Runs the unittest cases of a test script and sums up the way tests/run reads it."""

import argparse
import pathlib
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def build_directory():
    """The build whose programs are tested: --build DIR, taken out of the command line."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "dev")
    arguments, rest = parser.parse_known_args()
    sys.argv[1:] = rest
    return arguments.build.resolve()


def sanitizers(build):
    """The value of HORA_SANITIZE in that build, or an empty string."""
    for line in (build / "CMakeCache.txt").read_text().splitlines():
        if line.startswith("HORA_SANITIZE:"):
            return line.split("=", 1)[1]
    return ""


def main():
    build_directory()  # a script that needs no build has not taken --build yet
    result = unittest.main(exit=False, verbosity=2).result
    failed = len(result.failures) + len(result.errors)
    for _, reason in result.skipped:
        print(f"SKIPPED: {reason}")
    print(f"{result.testsRun - failed - len(result.skipped)} passed, {failed} failed, {len(result.skipped)} skipped")
    sys.exit(1 if failed else 0)
