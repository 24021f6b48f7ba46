#!/usr/bin/env python3
"""What goes wrong in a job, other than deaths, is a clear error on all ranks in bounded time."""

import pathlib
import re
import unittest

import report
from job import Job

BUILD = report.build_directory()
WORKER = BUILD / "tests" / "error_worker"
SECONDS = 60 if report.sanitizers(BUILD) else 20  # a job that takes longer hangs


def shell(limits, scenario="start"):
    """A worker under `limits`, shell commands."""
    return ["sh", "-c", f"{limits}; exec {WORKER} {scenario} --ready {{folder}}/ready --gate {{folder}}/gate"]


class Errors(unittest.TestCase):
    def start(self, np, command, **options):
        job = Job(BUILD, np, command, min_np=np, **options)
        self.addCleanup(job.close)
        return job

    def worker(self, np, scenario, **options):
        return self.start(np, [WORKER, scenario, "--ready", "{folder}/ready", "--gate", "{folder}/gate"], **options)

    def finish(self, job, status=0):
        found = job.wait_end(SECONDS)
        text = job.output()
        self.assertIsNotNone(found, "a hang\n" + text + job.stacks())
        if status is not None:
            self.assertEqual(found, status, text)
        return text

    def assert_all_ranks_say(self, text, np, *words):
        for rank in range(np):
            lines = [line for line in text.splitlines() if f"rank {rank}: " in line]
            for word in words:
                self.assertTrue(any(re.search(word, line) for line in lines), f"rank {rank} says no {word}:\n{text}")
            self.assertTrue(any("goes on" in line for line in lines), f"rank {rank} does not go on:\n{text}")

    def mismatch(self, scenario, *words, np=3):
        self.assert_all_ranks_say(self.finish(self.worker(np, scenario)), np, "mismatch", *words)

    def test_different_shapes_for_a_name(self):
        self.mismatch("different_shapes", "weights", "4", "6")

    def test_different_dtypes_for_a_name(self):
        self.mismatch("different_dtypes", "weights", "float32", "int32")

    def test_different_operations_for_a_name(self):
        self.mismatch("different_ops", "weights", "sum", "max")

    def test_different_collectives_for_a_name(self):
        self.mismatch("different_collectives", "weights", "allreduce", "broadcast")

    def test_different_roots_for_a_name(self):
        self.mismatch("different_roots", "weights", "from rank 0", "from rank 2")

    def test_different_counts_in_an_ordered_call(self):
        self.mismatch("ordered_counts", "4", "5")

    def test_different_ordered_calls(self):
        self.mismatch("ordered_calls", "allreduce", "barrier")

    def test_a_duplicate_name_in_flight(self):
        job = self.worker(3, "duplicate_name")
        self.assertTrue(job.wait_said("failed", 2, SECONDS), job.output())
        job.open_gate()
        text = self.finish(job)
        for rank in (1, 2):
            self.assertRegex(text, rf"rank {rank}: invalid_argument: .*weights")

    def test_a_rank_that_never_submits(self):
        job = self.worker(3, "absent_rank",
                          environment={"HORA_STALL_WARNING_MS": "300", "HORA_OPERATION_TIMEOUT_MS": "1500"})
        self.assertTrue(job.wait_said("failed", 2, SECONDS), job.output())
        job.open_gate()
        text = self.finish(job)
        for rank in (0, 1):
            self.assertRegex(text, rf"rank {rank}: timed_out: .*weights")
        reports = [line for line in text.splitlines() if "weights" in line and "timed_out" not in line]
        self.assertTrue(reports, "no stall report\n" + text)
        # Who has it, and who has not.
        self.assertRegex(reports[0], r"\b0\b.*\b1\b.*\b2\b|\b2\b.*\b0\b.*\b1\b")

    def test_too_few_file_descriptors(self):
        text = self.finish(self.start(2, shell("ulimit -n 9")), status=None)
        self.assertRegex(text, r"resource: .*(file descriptor|RLIMIT_NOFILE|ulimit -n)")

    def test_too_little_address_space(self):
        if report.sanitizers(BUILD):
            self.skipTest("a sanitizer reserves more address space than any limit")
        text = self.finish(self.start(2, shell("ulimit -v 12000")), status=None)
        self.assertRegex(text, r"resource: .*(memory|address space|RLIMIT_AS)")

    def test_too_little_address_space_for_threads(self):
        if report.sanitizers(BUILD):
            self.skipTest("a sanitizer reserves more address space than any limit")
        text = self.finish(self.start(2, shell("ulimit -v 30000")), status=None)
        self.assertRegex(text, r"resource: .*thread.*(ulimit -u|ulimit -v|-v)")

    def test_too_little_memory_in_the_cgroup(self):
        if report.sanitizers(BUILD):
            self.skipTest("a sanitizer needs more memory than the limit leaves")
        group = self.make_cgroup(8 << 20)
        enter = ("sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh")
        ranks = shell("echo 1000 > /proc/self/oom_score_adj")  # before the launcher, which is to tell
        text = self.finish(self.start(2, ranks, prefix=enter), status=None)
        self.assertRegex(text, r"resource: .*memory|killed by SIGKILL: the machine was out of memory")

    def make_cgroup(self, bytes_max):
        """A new cgroup below that of this process with so much memory and no swap, or a skip."""
        mount = pathlib.Path("/sys/fs/cgroup")
        second = (mount / "cgroup.controllers").exists()
        lines = [line.split(":", 2) for line in pathlib.Path("/proc/self/cgroup").read_text("ascii").splitlines()]
        own = next(path for _, controllers, path in lines if controllers == ("" if second else "memory"))
        root = (mount if second else mount / "memory") / own.lstrip("/")
        group = root / f"hora-test-{id(self)}"
        limits = {"memory.max": bytes_max, "memory.swap.max": 0} if second else {
            "memory.limit_in_bytes": bytes_max, "memory.memsw.limit_in_bytes": bytes_max}
        try:
            group.mkdir()
            self.addCleanup(group.rmdir)
            for name, value in limits.items():
                (group / name).write_text(str(value), "ascii")
        except OSError as error:
            self.skipTest(f"cannot make a cgroup with a memory limit here: {error}")
        return group

    def test_a_world_size_that_nobody_fills(self):
        text = self.finish(self.start(2, shell("export HORA_SIZE=3 HORA_START_TIMEOUT_MS=1500")), status=None)
        self.assertRegex(text, r"timed_out: .*rank 2")

    def test_a_rank_beyond_the_world(self):
        text = self.finish(self.start(2, shell("export HORA_SIZE=1 HORA_START_TIMEOUT_MS=1500")), status=None)
        self.assertRegex(text, r"invalid_argument: .*HORA_RANK")

    def test_world_sizes_that_differ(self):
        limits = "[ $HORA_RANK = 0 ] || export HORA_SIZE=3; export HORA_START_TIMEOUT_MS=1500"
        text = self.finish(self.start(2, shell(limits)), status=None)
        self.assertRegex(text, r"(mismatch|invalid_argument|timed_out): .*(size|HORA_SIZE|rank 2)")

    def test_a_command_that_does_not_exist(self):
        text = self.finish(self.start(2, ["/nowhere/no-such-program"]), status=127)
        self.assertRegex(text, r"no-such-program.*(No such file|not found)")


if __name__ == "__main__":
    report.main()
