#!/usr/bin/env python3
"""A job on three hosts, one of which is cut off and comes back. The hosts are network namespaces, so this needs root.

usage: partition_test.py --build DIR [TEST...]
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time
import types
import unittest

import report
from job import Job
from rejoin_test import check

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "examples"))
import namespaces  # noqa: E402

BUILD = report.build_directory()
WHY_NOT = namespaces.missing()
HOSTS = 3
CUT = 1  # index of the host that is cut off, and number of its only rank
SILENCE_MS = 500
SECONDS = 90  # more is a hang
NEXT_RESULT_S_MOST = 10  # an order of magnitude more than it takes


class Partition(unittest.TestCase):
    def setUp(self):
        if WHY_NOT:
            print(f"SKIPPED: {WHY_NOT}", flush=True)
            self.skipTest(WHY_NOT)

    def start(self, hosts, host_silence):
        # Large enough that the records last; it ends once it is whole after 10 s, thus after the cut.
        command = [BUILD / "tests" / "elastic_worker", "--records", "{folder}/records", "--ready", "{folder}/ready",
                   "--size", HOSTS, "--seconds", 10, "--patience", SECONDS, "--bytes", 1 << 20]
        options = ("--hosts", ",".join(f"{address}:1" for address in hosts.addresses), "--ssh", hosts.shell,
                   "--max-restarts", "3", "--host-silence", str(host_silence))
        return Job(BUILD, HOSTS, command, environment={"HORA_SILENCE_MS": str(SILENCE_MS)}, run_options=options,
                   prefix=hosts.command())

    def survivors(self, job):
        return [job.records(process) for process in range(HOSTS) if process != CUT]

    def await_condition(self, job, condition, what):
        """As wait_until(), for what no process announces."""
        deadline = time.monotonic() + SECONDS
        while not condition():
            self.assertIsNone(job.process.poll(), f"the job has ended before: {what}\n{job.output()}")
            self.assertLess(time.monotonic(), deadline, f"not within {SECONDS} s: {what}\n{job.output()}")
            job.pass_time(0.05)

    def cut(self, job, hosts):
        """Returns the time, in ns, once the others have results without the rank that is cut off."""
        self.assertTrue(job.wait_said("ready", HOSTS, SECONDS), job.output())
        self.await_condition(job, lambda: all(self.survivors(job)), "a step on every host")
        at = time.monotonic_ns()
        hosts.set_link(CUT, "down")
        self.await_condition(job, lambda: all(records[-1]["contributors"] == HOSTS - 1
                                              for records in self.survivors(job)), "results of the others")
        return at

    def end(self, job, hosts, cut_at):
        """Awaits the rejoin and the end, and checks all that was recorded."""
        if not job.wait_said("entered", 1, SECONDS):
            self.fail("nobody joined\n" + job.output() + job.stacks())
        entered = job.said["entered"]
        self.assertEqual({hosts.address_of(job.pids[process]) for process in entered}, {hosts.addresses[CUT]},
                         job.output())
        status = job.wait_end(SECONDS)
        if status is None:
            self.fail("the job did not end\n" + job.output() + job.stacks())
        self.assertEqual(check(job, types.SimpleNamespace(np=HOSTS), status, {CUT}), [], job.output())
        self.assertNotIn(CUT, job.said["end"])
        # Nothing ends between the cut and its detection: what comes later is a result without the one cut off.
        later = [min(record["time_ns"] for record in records if record["time_ns"] > cut_at + SILENCE_MS * 100_000)
                 for records in self.survivors(job)]
        seconds = (max(later) - cut_at) / 1e9
        print(f"cut to next result: {seconds * 1000:.0f} ms, at a silence of {SILENCE_MS} ms", flush=True)
        self.assertLess(seconds, NEXT_RESULT_S_MOST)

    def test_a_host_that_is_cut_off_is_outlived_and_comes_back(self):
        with namespaces.Namespaces(HOSTS) as hosts, self.start(hosts, host_silence=2) as job:
            cut_at = self.cut(job, hosts)
            self.await_condition(job, lambda: f"host {hosts.addresses[CUT]} is lost" in job.output(), "a lost host")
            self.await_condition(job, lambda: CUT not in job.alive(), "the agent there ends its rank")
            hosts.set_link(CUT, "up")
            self.end(job, hosts, cut_at)

    def test_a_link_that_is_soon_back_ends_the_expelled_and_not_the_host(self):
        with namespaces.Namespaces(HOSTS) as hosts, self.start(hosts, host_silence=30) as job:
            cut_at = self.cut(job, hosts)
            hosts.set_link(CUT, "up")
            self.end(job, hosts, cut_at)
            output = job.output()
        self.assertRegex(output, r"\[1\] elastic_worker: fenced: ")
        self.assertIn("rank 1 exited with status 1; replaced by [3]", output)
        self.assertNotIn("is lost", output)

    def test_the_demo_holds(self):
        with tempfile.TemporaryDirectory() as out:
            command = [sys.executable, report.ROOT / "examples" / "demo_hosts.py", "--build", BUILD, "--out", out,
                       "--ranks-per-host", "1", "--steps", "2800", "--timeout", str(SECONDS)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=2 * SECONDS)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            result = json.loads((pathlib.Path(out) / "result.json").read_text())
        self.assertEqual(result["world_sizes"], [3, 2, 3])
        self.assertIn("no quorum", result["cut_off"][0]["why"])
        self.assertEqual([one["host"] for one in result["joined"]], ["10.99.0.12"])
        self.assertTrue(result["hashes_equal"] and result["steps_missing"] == 0)


if __name__ == "__main__":
    report.main()
