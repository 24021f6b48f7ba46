#!/usr/bin/env python3
"""Training with DistributedDataParallel goes on when ranks are killed; the example runs under several launchers."""

import os
import shutil
import subprocess
import unittest

import environment
import report
from job import Job

STEPS = 60  # ddp_worker.py
PATIENCE = 120
EXAMPLE = report.ROOT / "examples" / "python" / "train_ddp.py"
SAID = r"200 steps, {0} of {1} ranks at the end, parameters equal on all of them, test accuracy 9\d\.\d %"


class Training(unittest.TestCase):
    def setUp(self):
        environment.require()

    def check(self, np, victims, *options):
        """No step is missing, and the survivors have the same parameters after each."""
        command = [environment.BIN / "python", environment.HERE / "ddp_worker.py", "{folder}", "--victims", *victims,
                   *options]
        with Job(environment.BIN, np, command) as job:
            self.assertEqual(job.wait_end(PATIENCE), 0, job.output()[-6000:])
            left = [rank for rank in range(np) if rank not in victims]
            first = (job.folder / f"records-{left[0]}").read_text().splitlines()
            self.assertEqual(len(first), STEPS)
            for rank in left[1:]:
                other = (job.folder / f"records-{rank}").read_text().splitlines()
                self.assertEqual(other, first, f"rank {rank}")
            self.assertEqual(first[-1].split()[2], str(len(left)))
            if "--amid" not in options:
                self.assertIn("as alone on the batches of the living", job.output())

    def test_goes_on_without_rank_0_and_another(self):
        self.check(4, [0, 2])

    def test_goes_on_without_a_rank_that_dies_in_a_step(self):
        self.check(3, [0], "--amid")

    def test_goes_on_with_ddp_hook(self):
        self.check(3, [0], "--hook")

    def test_goes_on_with_ddp_hook_over_gloo(self):
        self.check(3, [0], "--hook", "--backend", "gloo")


class Examples(unittest.TestCase):
    def setUp(self):
        environment.require()

    def test_under_hora_run(self):
        with Job(environment.BIN, 2, [environment.BIN / "python", EXAMPLE], min_np=2) as job:
            self.assertEqual(job.wait_end(PATIENCE), 0, job.output())
            self.assertRegex(job.output(), SAID.format(2, 2))

    def run_under(self, *words):
        more = {"OMP_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        done = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, env={**os.environ, **more}, timeout=PATIENCE)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertRegex(done.stdout, SAID.format(2, 2))
        return done.stdout

    def test_under_torchrun_which_is_warned_of(self):
        text = self.run_under(environment.BIN / "python", "-m", "torch.distributed.run", "--standalone",
                              "--nproc-per-node", 2, EXAMPLE)
        self.assertEqual(text.count("torchrun ends all ranks when one dies"), 1, text)

    def test_under_mpirun(self):
        mpirun = shutil.which("mpirun.openmpi")
        if mpirun is None:
            self.skipTest("no mpirun of Open MPI (scripts/setup mpi)")
        self.run_under(mpirun, "--oversubscribe", "-np", 2, environment.BIN / "python", EXAMPLE)


if __name__ == "__main__":
    report.main()
