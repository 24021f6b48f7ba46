#!/usr/bin/env python3
"""The same program gives the same output whoever starts it, and goes on where its launcher lets it.

usage: launchers_test.py --build BUILD [TEST...]
"""

import pathlib
import unittest

import launchers

RANKS = 4
HERE = pathlib.Path(__file__).resolve().parent


def expected_output(ranks):
    """What allreduce.cc and allreduce.py must say."""
    pattern = [1 + i % 97 for i in range(1000)]

    def line(what, factor):
        values = [factor * value for value in pattern]
        return f"{what}: first {values[0]:.1f}, last {values[-1]:.1f}, total {sum(values):.1f}"

    def words(what, values):
        return " ".join([f"{what}:", *map(str, values)])

    total = ranks * (ranks + 1) / 2
    return "\n".join([f"{ranks} ranks", line("sum", total), line("max", ranks), line("average", total / ranks),
                      line("broadcast", ranks), words("ranks", range(ranks)), words("local ranks", range(ranks)),
                      words("local sizes", [ranks] * ranks), ""])


def programs(build):
    """Name to (command, why it cannot run)."""
    found = {"cc": ([build / "tests" / "launchers_allreduce"], None)}
    twin = HERE / "allreduce.py"
    if twin.exists():
        python = launchers.torch_environment() / "bin" / "python"
        why = None if python.exists() else f"no Python with torch and hora at {python} (make test-torch makes it)"
        found["py"] = ([python, twin], why)
    return found


class Launchers(unittest.TestCase):
    """Its methods are made below, one for each launcher and program."""

    def skip(self, reason):
        print(f"SKIPPED: {reason}", flush=True)
        self.skipTest(reason)

    def check(self, launcher, command, expected, recovery=False):
        if reason := launcher.missing():
            self.skip(reason)
        status, output, errors = launchers.run(launcher.words(RANKS, command, recovery), launcher.environment)
        self.assertEqual(output, expected, f"{launcher.name}: status {status}, errors:\n{errors}")
        return status, errors


def add_tests(build):
    for launcher in launchers.all_launchers(build):
        for program, (command, why) in programs(build).items():
            def same_output(self, launcher=launcher, command=command, why=why):
                if why:
                    self.skip(why)
                status, errors = self.check(launcher, command, expected_output(RANKS))
                self.assertEqual(status, 0, errors)
            setattr(Launchers, f"test_same_output_of_{program}_under_{launcher.name}", same_output)
        if not launcher.recovery:
            continue
        for what, victims in {"a_rank": (2,), "rank_0_with_the_store": (0,), "two_ranks": (0, 3)}.items():
            def goes_on(self, launcher=launcher, victims=victims):
                command = [build / "tests" / "launchers_survivors", *victims]
                left = RANKS - len(victims)
                self.check(launcher, command, f"{left} of {RANKS} ranks are left, with equal results\n", recovery=True)
            setattr(Launchers, f"test_goes_on_without_{what}_under_{launcher.name}", goes_on)


if __name__ == "__main__":
    BUILD, tests = launchers.parse_arguments()
    add_tests(BUILD)
    unittest.main(argv=tests, verbosity=2)
