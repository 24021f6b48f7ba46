#!/usr/bin/env python3
"""What members leave behind is given back: a survivor of many replacements has as many descriptors and shared mappings
as after the first."""

import collections
import os
import pathlib
import re
import unittest

import report
from job import Job
from waiting import wait_until

BUILD = report.build_directory()
RANKS = 6
PATIENCE = 60


def held(pid):
    """Descriptors by kind, and mappings of segments and rings."""
    counts = collections.Counter()
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            counts[re.sub(r"[0-9]+", "", os.readlink(entry))] += 1
        except FileNotFoundError:
            pass  # closed since it was listed
    for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
        if "memfd:" in line:
            counts["mapped memory"] += 1
    return counts


class Departed(unittest.TestCase):
    def replace_often(self, transport):
        command = [BUILD / "tests" / "elastic_worker", "--records", "{folder}/records", "--ready", "{folder}/ready",
                   "--size", RANKS, "--seconds", 600, "--pause-ms", 5]
        options = ("--max-restarts", str(2 * RANKS))
        with Job(BUILD, RANKS, command, environment={"HORA_TRANSPORT": transport}, run_options=options) as job:
            self.assertTrue(job.wait_said("running", RANKS, PATIENCE), job.output())
            survivor, first = job.pids[0], None
            for founder in range(1, RANKS):
                before = len(job.said["ready"])
                job.kill(founder)
                self.assertTrue(job.wait_said("ready", before + 1, PATIENCE), job.output())
                if founder % 2 == 0:
                    job.kill(max(job.pids))  # linked; it enters at the next boundary, or never
                self.assertTrue(job.wait_until(lambda: max(job.pids) in job.said.get("entered", ()), PATIENCE),
                                job.output())
                first = first or held(survivor)
            wait_until(lambda: not held(survivor) - first, f"no more than {first}, but {held(survivor)}", PATIENCE)

    def test_where_all_share_memory(self):
        self.replace_often("shm")

    def test_over_sockets(self):
        self.replace_often("tcp")


if __name__ == "__main__":
    report.main()
