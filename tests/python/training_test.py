#!/usr/bin/env python3
"""Training with DistributedOptimizer goes on when ranks are killed, and takes newcomers; the examples run."""

import pathlib
import tempfile
import unittest

import environment
import launchers
import report
from job import Job

BUILD = report.build_directory()
STEPS = 60  # training_worker.py
PATIENCE = 120


def start(np, arguments, **options):
    command = [environment.BIN / "python", environment.HERE / "training_worker.py", "{folder}", *arguments]
    return Job(environment.BIN, np, command, **options)


def records(folder, name):
    """Steps, hashes of the parameters, sizes of the job, and whether the rank had entered, of one rank."""
    rows = [line.split() for line in (folder / name).read_text().splitlines()]
    return [(int(step), content, int(size), entered == "1") for step, content, size, entered in rows]


class Training(unittest.TestCase):
    def setUp(self):
        environment.require()

    def check_survivors(self, job, survivors, np, died_in):
        """No step is missing, and all have the same parameters after each."""
        status = job.wait_end(PATIENCE)
        self.assertEqual(status, 0, job.output()[-6000:])
        first = records(job.folder, f"records-{survivors[0]}")
        self.assertEqual([step for step, *_ in first], list(range(1, STEPS + 1)))
        for rank in survivors[1:]:
            other = records(job.folder, f"records-{rank}")
            self.assertEqual([row[:2] for row in other], [row[:2] for row in first], f"rank {rank}")
        sizes = [size for _, _, size, _ in first]
        self.assertEqual((sizes[0], sizes[-1]), (np, len(survivors)))
        self.assertTrue(all(size == np for size in sizes[:died_in - 1]), sizes)
        self.assertTrue(all(size == len(survivors) for size in sizes[died_in + 1:]), sizes)

    def test_goes_on_without_a_rank_that_dies_in_a_step(self):
        for np, victim in ((2, 1), (4, 0)):
            with self.subTest(np=np, victim=victim), start(np, ["--victim", victim, "--die-at", 20]) as job:
                self.check_survivors(job, [rank for rank in range(np) if rank != victim], np, 21)

    def test_goes_on_without_two_ranks_that_are_killed_from_outside(self):
        with start(4, ["--gate", 30]) as job:
            self.assertTrue(job.wait_said("gate", 4, PATIENCE), job.output())
            job.open_gate(1)  # one is in its step already
            job.kill(1)
            job.kill(3)
            job.open_gate(3)
            status = job.wait_end(PATIENCE)
            self.assertEqual(status, 0, job.output()[-6000:])
            left, right = records(job.folder, "records-0"), records(job.folder, "records-2")
            self.assertEqual(left, right)
            self.assertEqual([step for step, *_ in left], list(range(1, STEPS + 1)))
            self.assertEqual(left[-1][2], 2)

    def test_goes_on_under_mpirun(self):
        launcher = next(one for one in launchers.all_launchers(BUILD) if one.name == "debian_mpirun")
        if launcher.missing():
            self.skipTest(launcher.missing())
        with tempfile.TemporaryDirectory(prefix="hora-test-") as folder:
            command = [environment.BIN / "python", environment.HERE / "training_worker.py", folder, "--victim", 0,
                       "--die-at", 20]
            # mpirun's own status tells of the death.
            _, output, errors = launchers.run(launcher.words(3, command, recovery=True), launcher.environment)
            names = [path.name for path in sorted(pathlib.Path(folder).iterdir())]
            self.assertEqual(names, ["records-0", "records-1", "records-2"], output + errors)
            left, right = (records(pathlib.Path(folder), name) for name in names[1:])
            self.assertEqual(left, right)
            self.assertEqual([step for step, *_ in left], list(range(1, STEPS + 1)), output + errors)
            self.assertEqual((left[0][2], left[-1][2]), (3, 2))

    def test_takes_in_a_newcomer_for_a_rank_that_dies(self):
        options = ["--victim", 1, "--die-at", 20, "--elastic"]
        with start(3, options, run_options=["--max-restarts", "1"]) as job:
            self.assertEqual(job.wait_end(PATIENCE), 0, job.output()[-6000:])
            first, other = records(job.folder, "records-0"), records(job.folder, "records-2")
            self.assertEqual(first, other)
            names = [path.name for path in job.folder.glob("newcomer-*")]
            self.assertEqual(len(names), 1, job.output()[-6000:])
            newcomer = records(job.folder, names[0])
            by_step = {step: content for step, content, *_ in first}
            self.assertTrue(newcomer and all(by_step[step] == content for step, content, *_ in newcomer))
            self.assertTrue(newcomer[-1][3], "the newcomer has not entered")
            self.assertEqual((newcomer[-1][0], first[-1][2]), (first[-1][0], 3))


class Examples(unittest.TestCase):
    def test_horovod_style(self):
        environment.require()
        program = report.ROOT / "examples" / "python" / "train_horovod.py"
        for np, more in ((1, []), (2, ["--elastic"])):
            with Job(environment.BIN, np, [environment.BIN / "python", program, *more], min_np=np) as job:
                self.assertEqual(job.wait_end(PATIENCE), 0, job.output())
                self.assertRegex(job.output(), rf"200 steps, {np} ranks at the end, parameters equal on all of them, "
                                               r"test accuracy 9\d\.\d %")


if __name__ == "__main__":
    report.main()
