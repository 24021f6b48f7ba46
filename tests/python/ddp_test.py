#!/usr/bin/env python3
"""Training with DistributedDataParallel goes on when ranks are killed; the example runs under several launchers."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import environment
import report
from job import Job

sys.path.insert(0, str(report.ROOT / "examples"))
import namespaces  # noqa: E402

STEPS = 60  # ddp_worker.py
PATIENCE = 120
AS_ALONE = "as alone on the batches of the living"
WORKER = environment.HERE / "ddp_worker.py"
EXAMPLE = report.ROOT / "examples" / "python" / "train_ddp.py"
SAID = r"200 steps, {0} of {1} ranks at the end, parameters equal on all of them, test accuracy 9\d\.\d %"


def environment_of_mpirun():
    return {**os.environ, "OMP_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def run(*words):
    done = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env=environment_of_mpirun(), timeout=PATIENCE)
    return done.returncode, done.stdout


def require_mpirun():
    path = shutil.which("mpirun.openmpi")
    if path is None:
        raise unittest.SkipTest("no mpirun of Open MPI (scripts/setup mpi)")
    return path


class Training(unittest.TestCase):
    def setUp(self):
        environment.require()

    def check_records(self, folder, np, victims):
        """No step is missing, and the survivors have the same parameters after each."""
        left = [rank for rank in range(np) if rank not in victims]
        first = (folder / f"records-{left[0]}").read_text().splitlines()
        self.assertEqual(len(first), STEPS)
        for rank in left[1:]:
            self.assertEqual((folder / f"records-{rank}").read_text().splitlines(), first, f"rank {rank}")
        self.assertEqual(first[-1].split()[2], str(len(left)))

    def check(self, np, victims, *options):
        command = [environment.BIN / "python", WORKER, "{folder}", "--victims", *victims, *options]
        with Job(environment.BIN, np, command) as job:
            self.assertEqual(job.wait_end(PATIENCE), 0, job.output()[-6000:])
            self.check_records(job.folder, np, victims)
            if "--amid" not in options:
                self.assertIn(AS_ALONE, job.output())

    def test_goes_on_without_rank_0_and_another(self):
        self.check(4, [0, 2])

    def test_goes_on_without_a_rank_that_dies_in_a_step(self):
        self.check(3, [0], "--amid")

    def test_goes_on_with_ddp_hook(self):
        self.check(3, [0], "--hook")

    def test_goes_on_with_ddp_hook_over_gloo(self):
        self.check(3, [0], "--hook", "--backend", "gloo")

    def test_goes_on_under_mpirun(self):
        with tempfile.TemporaryDirectory(prefix="hora-test-") as folder:
            _, text = run(require_mpirun(), "--oversubscribe", "--enable-recovery", "-np", 3,
                          environment.BIN / "python", WORKER, folder, "--victims", 0)
            self.assertIn(AS_ALONE, text)
            self.check_records(pathlib.Path(folder), 3, [0])


class Meeting(unittest.TestCase):
    """Of ranks that have no RANK."""

    def setUp(self):
        environment.require()

    def said(self, backend, **variables):
        program = f"import torch.distributed as d; d.init_process_group({backend!r})"
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("RANK", "HORA_"))}
        done = subprocess.run([environment.BIN / "python", "-c", program], env={**clean, **variables}, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        return done.stdout

    def test_other_backends_are_left_alone(self):
        launched = {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1"}
        self.assertIn("environment variable RANK expected", self.said("gloo", **launched))

    def test_replacements_are_refused_clearly(self):
        self.assertIn("takes no newcomers", self.said("hora", HORA_JOIN="1", HORA_STORE="unix:@none"))


class Examples(unittest.TestCase):
    def setUp(self):
        environment.require()

    def test_under_hora_run(self):
        with Job(environment.BIN, 2, [environment.BIN / "python", EXAMPLE], min_np=2) as job:
            self.assertEqual(job.wait_end(PATIENCE), 0, job.output())
            self.assertRegex(job.output(), SAID.format(2, 2))

    def run_under(self, *words):
        status, text = run(*words)
        self.assertEqual(status, 0, text)
        self.assertRegex(text, SAID.format(2, 2))
        return text

    def test_under_torchrun_which_is_warned_of(self):
        text = self.run_under(environment.BIN / "python", "-m", "torch.distributed.run", "--standalone",
                              "--nproc-per-node", 2, EXAMPLE)
        self.assertEqual(text.count("torchrun ends all ranks when one dies"), 1, text)

    def test_on_two_hosts(self):
        if reason := namespaces.missing():
            self.skipTest(reason)
        with namespaces.Namespaces(2) as hosts:
            place = {"WORLD_SIZE": "2", "MASTER_ADDR": hosts.addresses[0], "MASTER_PORT": "29500"}
            ranks = [subprocess.Popen(["ip", "netns", "exec", name, environment.BIN / "python", EXAMPLE], text=True,
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                      env={**os.environ, **place, "RANK": str(rank)})
                     for rank, name in enumerate(hosts.names)]
            texts = [rank.communicate(timeout=PATIENCE)[0] for rank in ranks]
        self.assertEqual([rank.returncode for rank in ranks], [0, 0], texts)
        self.assertRegex(texts[0], SAID.format(2, 2))

    def test_under_mpirun(self):
        self.run_under(require_mpirun(), "--oversubscribe", "-np", 2, environment.BIN / "python", EXAMPLE)


if __name__ == "__main__":
    report.main()
