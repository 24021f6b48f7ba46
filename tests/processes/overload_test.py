#!/usr/bin/env python3
"""Slow is not dead: nobody is expelled while memory is filled or the CPUs are overloaded.

OVERLOAD_SECONDS=300 overload_test.py --build DIR      overloads for 5 minutes
"""

import os
import subprocess
import sys
import unittest

import report
from job import Job

BUILD = report.build_directory()
SECONDS = float(os.environ.get("OVERLOAD_SECONDS", "8"))
ENVIRONMENT = {"HORA_SILENCE_MS": "500"}
RANKS = 4
SPINNERS = 2 * (os.cpu_count() or 2)


class Overload(unittest.TestCase):
    def work(self, seconds, *extra):
        """Ranks work for so long, and all of them end."""
        command = [BUILD / "tests" / "kill_worker", "--seconds", seconds, "--front", "mixed", "--bytes-most", 65536,
                   "--records", "{folder}/records", "--ready", "{folder}/ready", *extra]
        with Job(BUILD, RANKS, command, min_np=RANKS, environment=ENVIRONMENT) as job:
            status = job.wait_end(60 + 10 * seconds)
            self.assertEqual(status, 0, job.output() if status is not None else job.output() + job.stacks())
            self.assertNotIn(" is gone", job.output())

    def test_a_rank_that_maps_memory_for_long_is_heard(self):
        # Every other mapping of the process waits meanwhile.
        self.work(0.5, "--gigabytes", 2, "--holder", 1)

    def test_ranks_on_overloaded_processors_are_heard(self):
        spinners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(SPINNERS)]
        try:
            self.work(SECONDS)
        finally:
            for spinner in spinners:
                spinner.kill()
                spinner.wait()


if __name__ == "__main__":
    report.main()
