#!/usr/bin/env python3
"""The same program gives the same output whoever starts it, and goes on where its launcher lets it.

usage: launchers_test.py --build BUILD [TEST...]
"""

import pathlib
import unittest

import launchers
import namespaces
import report

BUILD = report.build_directory()
LAUNCHERS = {launcher.name: launcher for launcher in launchers.all_launchers(BUILD)}
SURVIVORS = BUILD / "tests" / "launchers_survivors"
RANKS = 4
HERE = pathlib.Path(__file__).resolve().parent


def programs():
    """Name to (command, why it cannot run)."""
    found = {"cc": ([BUILD / "tests" / "launchers_allreduce"], None)}
    twin = HERE / "allreduce.py"
    if twin.exists():
        python = launchers.torch_environment() / "bin" / "python"
        why = None if python.exists() else f"no Python with torch and hora at {python} (make test-torch makes it)"
        found["py"] = ([python, twin], why)
    return found


class Launchers(unittest.TestCase):
    """More of its methods are made below, for each launcher and program."""

    def require(self, *wanted):
        for launcher in wanted:
            if reason := launcher.missing():
                self.skipTest(reason)

    def check(self, launcher, command, expected, recovery=False):
        self.require(launcher)
        status, output, errors = launchers.run(launcher.words(RANKS, command, recovery), launcher.environment)
        if recovery:  # some launchers tell of the dead there as well
            output = "".join(line for line in output.splitlines(True) if "ranks are left" in line)
        self.assertEqual(output, expected, f"{launcher.name}: status {status}, errors:\n{errors}")
        return status, errors

    def check_nested(self, outer, inner):
        """Two jobs of two ranks each, started by the ranks of a job that knows nothing of it."""
        self.require(outer, inner)
        command, _ = programs()["cc"]
        status, output, errors = launchers.run(outer.words(2, inner.words(2, command)),
                                               {**outer.environment, **inner.environment})
        self.assertEqual(sorted(output.splitlines()), sorted(launchers.expected_output(2).splitlines() * 2), errors)
        self.assertEqual(status, 0, errors)

    def test_mpiexec_inside_of_mpirun(self):
        self.check_nested(LAUNCHERS["debian_mpirun"], LAUNCHERS["mpich_5"])

    def test_mpirun_inside_of_mpiexec(self):
        self.check_nested(LAUNCHERS["mpich_5"], LAUNCHERS["debian_mpirun"])

    def test_mpirun_inside_of_hora_run(self):
        self.check_nested(LAUNCHERS["hora_run"], LAUNCHERS["debian_mpirun"])

    def test_hora_run_inside_of_mpirun(self):
        self.check_nested(LAUNCHERS["debian_mpirun"], LAUNCHERS["hora_run"])

    def test_torchrun_inside_of_mpirun(self):
        self.check_nested(LAUNCHERS["debian_mpirun"], LAUNCHERS["torchrun"])

    def test_mpirun_over_two_hosts_goes_on_without_rank_0(self):
        mpirun = LAUNCHERS["debian_mpirun"]
        self.require(mpirun)
        if reason := namespaces.missing():
            self.skipTest(reason)
        with namespaces.Namespaces(2) as hosts:
            where = ("--mca", "plm_rsh_agent", hosts.shell, "--host", ",".join(f"{host}:2" for host in hosts.addresses),
                     "-x", "HORA_STORE", "-x", "HORA_SECRET")
            store = {"HORA_STORE": f"{hosts.addresses[0]}:4000", "HORA_SECRET": "hush"}
            words = mpirun.words(RANKS, [*where, SURVIVORS, 0], recovery=True)
            status, output, errors = launchers.run(hosts.command(*words), {**mpirun.environment, **store})
        self.assertEqual(output, "3 of 4 ranks are left, with equal results\n", f"status {status}, errors:\n{errors}")


def add_tests():
    for launcher in LAUNCHERS.values():
        for program, (command, why) in programs().items():
            def same_output(self, launcher=launcher, command=command, why=why):
                if why:
                    self.skipTest(why)
                status, errors = self.check(launcher, command, launchers.expected_output(RANKS))
                self.assertEqual(status, 0, errors)
            setattr(Launchers, f"test_same_output_of_{program}_under_{launcher.name}", same_output)
        if not launcher.recovery:
            continue
        for what, victims in {"a_rank": (2,), "rank_0_with_the_store": (0,), "two_ranks": (0, 3)}.items():
            def goes_on(self, launcher=launcher, victims=victims):
                command = [SURVIVORS, *victims]
                left = RANKS - len(victims)
                self.check(launcher, command, f"{left} of {RANKS} ranks are left, with equal results\n", recovery=True)
            setattr(Launchers, f"test_goes_on_without_{what}_under_{launcher.name}", goes_on)


if __name__ == "__main__":
    add_tests()
    report.main()
