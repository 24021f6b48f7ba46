#!/usr/bin/env python3
"""How ranks of launchers that know nothing of hora meet, and what they say when they do not. A shell is the launcher:
what it sets for its children is what mpirun sets.

usage: meeting_test.py --build BUILD [TEST...]
"""

import pathlib
import socket
import tempfile
import unittest

import launchers
import report
from launchers import expected_output

BUILD = report.build_directory()

# Ranks $FIRST to $LAST of $SIZE, with $LOCAL ranks to a host.
MPIRUN = """
launch() {
  for rank in $(seq $FIRST $LAST); do
    OMPI_COMM_WORLD_RANK=$rank OMPI_COMM_WORLD_SIZE=$SIZE OMPI_COMM_WORLD_LOCAL_RANK=$((rank % LOCAL)) \
    OMPI_COMM_WORLD_LOCAL_SIZE=$LOCAL PMIX_NAMESPACE=4711 "$@" &
  done
  wait
}
"""
MPIRUN_SAYS = "mpirun of Open MPI (OMPI_COMM_WORLD_RANK={}, OMPI_COMM_WORLD_SIZE={})"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Meeting(unittest.TestCase):
    def program(self, name):
        return str(BUILD / "tests" / f"launchers_{name}")

    def launch(self, script, ranks=4, first=0, last=None, local=None, **environment):
        sizes = {"FIRST": first, "LAST": ranks - 1 if last is None else last, "SIZE": ranks, "LOCAL": local or ranks}
        return launchers.run(["sh", "-c", MPIRUN + script],
                             {**{name: str(value) for name, value in sizes.items()}, **environment})

    def test_ranks_of_one_job_meet(self):
        _, output, errors = self.launch(f"launch {self.program('allreduce')}")
        self.assertEqual((output, errors), (expected_output(4), ""))

    def test_two_jobs_at_once_never_meet(self):
        # Both have one job id, as two machines' launchers may; what they do not share is the process that started them.
        with tempfile.TemporaryDirectory(prefix="hora-test-") as folder:
            other = f"sh -c '{MPIRUN} launch {self.program('allreduce')}' >{folder}/output 2>&1"
            _, output, errors = self.launch(f"{other} & launch {self.program('allreduce')}")
            self.assertEqual((output, errors), (expected_output(4), ""))
            self.assertEqual(pathlib.Path(folder, "output").read_text(), expected_output(4))

    def test_a_job_id_can_be_used_again_right_after_a_crash(self):
        crash = f"launch {self.program('survivors')} 0 1 2 3"
        _, output, errors = self.launch(f"{crash} 2>/dev/null; launch {self.program('allreduce')}")
        self.assertEqual(output, expected_output(4), errors)

    def test_the_store_may_die_with_rank_0(self):
        _, output, errors = self.launch(f"launch {self.program('survivors')} 0")
        self.assertEqual(output, "3 of 4 ranks are left, with equal results\n", errors)

    def test_a_rank_0_that_does_not_come_is_named(self):
        _, _, errors = self.launch(f"launch {self.program('allreduce')}", first=1, last=1, HORA_START_TIMEOUT_MS="300")
        self.assertIn("rank 0 did not come within 300 ms (HORA_START_TIMEOUT_MS)", errors)
        self.assertIn("this process is rank 1 of 4 by " + MPIRUN_SAYS.format(1, 4), errors)

    def test_another_rank_that_does_not_come_is_named_by_all(self):
        _, _, errors = self.launch(f"launch {self.program('allreduce')}", last=2, HORA_START_TIMEOUT_MS="1000")
        expected = "rank 3 did not come within 1000 ms (HORA_START_TIMEOUT_MS); 3 of 4 ranks did"
        self.assertEqual(errors.count(expected), 3, errors)
        self.assertIn("by " + MPIRUN_SAYS.format(2, 4), errors)

    def test_ranks_of_several_hosts_need_a_store_that_all_can_reach(self):
        _, _, errors = self.launch(f"launch {self.program('allreduce')}", local=2)
        self.assertEqual(errors.count("only 2 of 4 ranks are on this host: set HORA_STORE=HOST:PORT"), 4)

    def test_rank_0_hosts_the_store_where_it_is_told_to(self):
        _, output, errors = self.launch(f"launch {self.program('survivors')} 0", local=2, HORA_SECRET="hush",
                                        HORA_STORE=f"127.0.0.1:{free_port()}")
        self.assertEqual((output, errors.count("HORA_")), ("3 of 4 ranks are left, with equal results\n", 0), errors)

    def test_a_store_without_a_secret_is_warned_about_once(self):
        address = f"127.0.0.1:{free_port()}"
        _, output, errors = self.launch(f"launch {self.program('allreduce')}", HORA_STORE=address)
        self.assertEqual(output, expected_output(4))
        self.assertEqual(errors.count(f"HORA_SECRET is not set: whoever reaches tcp:{address}"), 1, errors)

    def test_a_store_elsewhere_than_at_rank_0_is_said(self):
        _, _, errors = self.launch(f"launch {self.program('allreduce')}", last=0, HORA_STORE="192.0.2.1:4000")
        self.assertIn("HORA_STORE: rank 0 cannot listen at tcp:192.0.2.1:4000", errors)

    def test_tcp_is_used_where_it_is_asked_for(self):
        _, output, errors = self.launch(f"launch {self.program('allreduce')}", HORA_TRANSPORT="tcp")
        self.assertEqual((output, errors), (expected_output(4), ""))

    def test_a_job_of_hora_run_inside_of_each_rank(self):
        run = f"{BUILD}/hora run --no-tags -np 2 {self.program('allreduce')}"
        _, output, errors = self.launch(f"launch {run}", ranks=2)
        lines = sorted((expected_output(2) * 2).splitlines())
        self.assertEqual((sorted(output.splitlines()), errors), (lines, ""))

    def test_a_job_of_mpirun_inside_of_each_rank(self):
        inner = f"sh -c '{MPIRUN} launch {self.program('allreduce')}'"
        status, output, errors = launchers.run(
            ["sh", "-c", f'exec {BUILD}/hora run --no-tags -np 2 {inner}'],
            {"FIRST": "0", "LAST": "1", "SIZE": "2", "LOCAL": "2"})
        lines = sorted((expected_output(2) * 2).splitlines())
        self.assertEqual((status, sorted(output.splitlines()), errors), (0, lines, ""))


class HoraRun(unittest.TestCase):
    """What `hora run` leaves to programs that know other launchers."""

    def variables(self, **environment):
        # One line from each rank, so that lines of two ranks are not mixed.
        script = "echo $(env | grep -E '^(OMPI|PMI|RANK=|WORLD|LOCAL|MASTER|OMP_|TORCHEL)' | sort)"
        command = [str(BUILD / "hora"), "run", "--no-tags", "-np", "2", "sh", "-c", script]
        status, output, errors = launchers.run(command, environment)
        self.assertEqual((status, errors), (0, ""))
        return [dict(word.split("=", 1) for word in line.split()) for line in sorted(output.splitlines())]

    def test_sets_what_torch_reads_and_removes_what_outer_launchers_left(self):
        outer = {"OMPI_COMM_WORLD_RANK": "0", "PMI_RANK": "3", "PMI_SIZE": "4", "RANK": "7", "TORCHELASTIC_RUN_ID": "x"}
        ranks = sorted(self.variables(**outer), key=lambda variables: variables["RANK"])
        for rank, variables in enumerate(ranks):
            port = variables.pop("MASTER_PORT")
            self.assertTrue(0 < int(port) < 65536, port)
            self.assertEqual(variables, {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank),
                                         "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"})

    def test_leaves_the_number_of_threads_that_somebody_has_set(self):
        for variables in self.variables(OMP_NUM_THREADS="3"):
            self.assertEqual(variables["OMP_NUM_THREADS"], "3")


if __name__ == "__main__":
    report.main()
