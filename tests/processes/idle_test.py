#!/usr/bin/env python3
"""A job that has nothing to do uses no CPU."""

import pathlib
import time
import unittest

import report
from job import Job

BUILD = report.build_directory()
RANKS = 4
WINDOW_SECONDS = 6.0
SHARE_MOST = 0.005  # of one core, for all ranks and the launcher together


def processor_seconds(pid):
    """CPU time of all threads of a process so far."""
    total = 0
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
        total += int(path.read_text().split()[0])
    return total / 1e9


class Idle(unittest.TestCase):
    def test_idle_ranks_sleep(self):
        if report.sanitizers(BUILD):
            self.skipTest("a sanitizer's own threads use CPU")
        command = [BUILD / "tests" / "error_worker", "idle", "--ready", "{folder}/ready", "--gate", "{folder}/gate"]
        with Job(BUILD, RANKS, command) as job:
            self.assertTrue(job.wait_said("idle", RANKS, 20), job.output())
            processes = [job.process.pid, *job.pids.values()]
            job.pass_time(0.5)  # what the last operation woke goes back to sleep
            before = sum(map(processor_seconds, processes))
            begin = time.monotonic()
            job.pass_time(WINDOW_SECONDS)
            share = (sum(map(processor_seconds, processes)) - before) / (time.monotonic() - begin)
            self.assertIsNone(job.process.poll(), job.output())
            job.open_gate(RANKS)
            self.assertEqual(job.wait_end(20), 0, job.output())
        print(f"{RANKS} idle ranks use {share:.4%} of a core")
        self.assertLess(share, SHARE_MOST)


if __name__ == "__main__":
    report.main()
