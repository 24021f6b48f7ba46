#!/usr/bin/env python3
"""MPI as the transport, under mpirun: it carries the job, it is left behind at a death, and a wrong one is told."""

import argparse
import os
import pathlib
import random
import subprocess
import sys
import unittest

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "processes"))
import kill_test  # noqa: E402  (found by the line above)
from job import Job  # noqa: E402

BUILD = MPIRUN = None  # from the command line
PATIENCE_S = 60
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def mpirun(np, *options):
    return [MPIRUN, "--oversubscribe", *options, "-np", str(np)]


def run(command, **environment):
    """Status and all output of a command that ends by itself."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=PATIENCE_S, env={**os.environ, **AS_ROOT, "HORA_TRANSPORT": "mpi", **environment})
    return done.returncode, done.stdout


def addresses():
    """Where other hosts could reach this one."""
    return subprocess.run(["hostname", "-I"], stdout=subprocess.PIPE, text=True).stdout.split()


class Programs(unittest.TestCase):
    """Nobody dies."""

    def check_program(self, level, launch=None):
        status, output = run([*(launch or mpirun(3)), BUILD / "tests" / "mpi_program", level])
        self.assertEqual(status, 0, output)
        # 1 + 8 + ... elements, each 1 + 2 + 3.
        total = 6 * sum(8 ** power for power in range(7))
        told = sorted(line for line in output.splitlines() if line.startswith("rank "))
        self.assertEqual(told, [f"rank {rank} of 3: {total}" for rank in range(3)], output)

    def test_hora_starts_and_ends_mpi(self):
        self.check_program("none")

    def test_mpi_is_ended_though_one_rank_leaves_before_the_others(self):
        self.check_program("early")

    def test_hosts_meet_over_mpi_without_a_store(self):
        """Rank 1 sees other processes, so it counts as another host; MPI itself must not reach into its memory."""
        if subprocess.run(["unshare", "--pid", "--fork", "true"]).returncode != 0 or not addresses():
            print("SKIPPED: another host needs root, for a pid namespace, and an address beside loopback")
            self.skipTest("no other host")
        apart = 'if [ "$OMPI_COMM_WORLD_RANK" = 1 ]; then exec unshare --pid --fork --kill-child "$@"; fi; exec "$@"'
        self.check_program("none", [*mpirun(3, "--mca", "btl_vader_single_copy_mechanism", "none"), "sh", "-c", apart,
                                    "sh"])

    def test_a_program_may_have_called_mpi_init(self):
        self.check_program("init")

    def test_a_program_may_have_asked_for_serialized(self):
        self.check_program("serialized")

    def test_a_program_may_have_asked_for_multiple(self):
        self.check_program("multiple")

    def test_one_threads_mpi_is_not_used_from_another(self):
        status, output = run([*mpirun(2), BUILD / "tests" / "mpi_program", "elsewhere"])
        self.assertNotEqual(status, 0, output)
        self.assertIn("ask MPI_Init_thread for MPI_THREAD_SERIALIZED or MPI_THREAD_MULTIPLE", output)

    def test_perf_measures_over_mpi(self):
        status, output = run([*mpirun(2), BUILD / "hora", "perf", "allreduce", "-b", "4", "-e", "1M",
                              "-f", "64"])
        self.assertEqual(status, 0, output)


class Mistakes(unittest.TestCase):
    def check_refused(self, *texts, **environment):
        status, output = run([BUILD / "tests" / "kill_worker"], **environment)
        self.assertNotEqual(status, 0, output)
        for text in texts:
            self.assertIn(text, output)

    def test_an_mpi_that_counts_other_ranks_than_the_launcher(self):
        self.check_refused("rank 1 of 3", "MPI counts 1 rank", "Open MPI", "libmpi.so",
                           "start the program with the mpirun", HORA_RANK="1", HORA_SIZE="3")

    def test_a_missing_plugin(self):
        self.check_refused("the MPI plugin cannot be loaded", "/nowhere/libhora_mpi.so", "MPI_C_COMPILER",
                           HORA_MPI_PLUGIN="/nowhere/libhora_mpi.so")

    def test_a_plugin_of_another_version(self):
        self.check_refused("is of another version of hora", "build it again",
                           HORA_MPI_PLUGIN=str(BUILD / "tests" / "libold_plugin.so"))

    def test_a_library_that_is_no_plugin(self):
        self.check_refused("is no MPI plugin of hora", HORA_MPI_PLUGIN=str(BUILD / "libhora.so"))


class Deaths(unittest.TestCase):
    """A rank is killed: the others go on, over shared memory, with the same bits."""

    def run_and_kill(self, plan):
        command = [BUILD / "tests" / "kill_worker", "--seconds", "0.7", "--front", plan.front,
                   "--seed", plan.seed, "--bytes-most", plan.bytes_most, "--transport", "mpi",
                   "--records", "{folder}/records", "--ready", "{folder}/ready"]
        with Job(BUILD, plan.np, command, launch=mpirun(plan.np, "--enable-recovery"),
                 environment={**AS_ROOT, "HORA_TRANSPORT": "mpi"}) as job:
            self.assertTrue(job.wait_said("ready", plan.np, PATIENCE_S), job.output())
            for victim, moment in zip(plan.victims, plan.moments):
                job.pass_time(moment)
                job.kill(victim)
            survivors = plan.np - len(plan.victims)
            ended = job.wait_said("end", survivors, PATIENCE_S)
            self.assertTrue(ended, job.output() + job.stacks())
            self.assertIsNotNone(job.wait_end(PATIENCE_S), job.output() + job.stacks())
            # The status is mpirun's, which tells of the death.
            self.assertEqual(kill_test.check(job, plan, 0), [], job.output())
            self.assertIn("which MPI does not outlive", job.output())

    def test_survivors_go_on(self):
        seed = random.randrange(1 << 30)
        for number in range(6):
            plan = KillPlan(seed, number)
            with self.subTest(f"seed {seed}, {plan}"):
                self.run_and_kill(plan)


class KillPlan(kill_test.Plan):
    """Another victim each time, rank 0 too; ordered, negotiated and mixed."""

    def __init__(self, seed, number):
        chance = random.Random(seed * 1_000_003 + number)
        self.np = 3
        self.front = ("ordered", "negotiated", "mixed")[number % 3]
        self.bytes_most = chance.choice((4096, 1 << 20, 1 << 24))
        self.seed = chance.randrange(1 << 30)
        self.victims = [number % self.np]
        self.moments = [chance.uniform(0, 0.5)]
        self.may_die = list(self.victims)
        self.rule = None


def main():
    global BUILD, MPIRUN
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, default=TESTS.parent / "build" / "dev")
    parser.add_argument("--mpirun", default="mpirun")
    arguments, rest = parser.parse_known_args()
    BUILD, MPIRUN = arguments.build, arguments.mpirun
    if not (BUILD / "libhora_mpi.so").exists():
        print("SKIPPED: no MPI was found when the tests were built (libopenmpi-dev)")
        return 0
    return 0 if unittest.main(argv=[sys.argv[0], *rest], exit=False, verbosity=2).result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
