#!/usr/bin/env python3
"""What `hora doctor` says about a launcher, the job, and what is missing.

usage: doctor_test.py --build BUILD [TEST...]
"""

import json
import resource
import unittest

import launchers
import report

BUILD = report.build_directory()

MPIRUN = {"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}


class Doctor(unittest.TestCase):
    def facts(self, status=0, **environment):
        ended, output, errors = launchers.run([str(BUILD / "hora"), "doctor", "--json"], environment)
        self.assertEqual((ended, errors), (status, ""))
        found = json.loads(output)
        self.assertEqual(found["able"], status == 0)
        return found["facts"], found["missing"]

    def test_tells_the_machine_and_the_build(self):
        facts, _ = self.facts()
        version = launchers.run([str(BUILD / "hora"), "--version"])[1].split()[1]
        self.assertTrue(facts["hora"].startswith(version), facts["hora"])
        for subject in ("processor", "kernels", "cpus", "kernel", "open files", "CUDA driver", "NCCL", "MPI plugin"):
            self.assertTrue(facts[subject], subject)

    def test_without_a_launcher_it_is_a_job_of_one(self):
        facts, _ = self.facts()
        self.assertEqual(facts["launcher"], "none: a job of one rank")
        self.assertEqual(facts["transport"], "shm: a job of one rank")

    def test_tells_the_launcher_and_by_what_it_is_recognised(self):
        facts, _ = self.facts(**MPIRUN, OMPI_COMM_WORLD_LOCAL_SIZE="4")
        self.assertEqual(facts["launcher"], "mpirun of Open MPI (OMPI_COMM_WORLD_RANK=2, OMPI_COMM_WORLD_SIZE=4)")
        self.assertRegex(facts["environment"], r"rank 2 of 4 \(0 of 4 on this host\) of job 'mpirun-[0-9a-f]+'")
        self.assertIn("hosted by rank 0; the ranks meet at unix:@hora-", facts["store"])
        self.assertEqual(facts["transport"], "shm: all 4 ranks are on this host")
        self.assertRegex(facts["schedule"], r"allreduce in one shot to 8 KiB, beyond in two, by chunks of \d+ KiB")

    def test_tells_what_ranks_of_several_hosts_would_use(self):
        facts, _ = self.facts(**MPIRUN, OMPI_COMM_WORLD_LOCAL_SIZE="2", HORA_STORE="node1:4000")
        self.assertIn("tcp:node1:4000", facts["store"])
        self.assertIn("mixed: shared memory for the 2 of 4 ranks on each host", facts["transport"])
        self.assertRegex(facts["schedule"], r"allreduce .* to \d+ [KM]?i?B, .* beyond")

    def test_tells_what_the_user_asked_for(self):
        facts, _ = self.facts(**MPIRUN, HORA_TRANSPORT="tcp")
        self.assertEqual(facts["transport"], "tcp: HORA_TRANSPORT asks for it")

    def test_tells_for_how_many_ranks_the_open_files_are_enough(self):
        facts, missing = self.facts(**MPIRUN, HORA_TRANSPORT="tcp", HORA_SOCKETS_PER_PAIR="3")
        self.assertRegex(facts["most ranks"], r"^\d+, by the limit on open files \(9 for each other rank\)$")
        few = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (80, few[1]))
        try:
            facts, missing = self.facts(**MPIRUN, HORA_TRANSPORT="tcp", HORA_SOCKETS_PER_PAIR="3")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, few)
        self.assertTrue(facts["most ranks"].startswith("2, "), facts["most ranks"])
        self.assertIn("open files for a job of 4 ranks", [lack["what"] for lack in missing])

    def test_what_is_missing_has_a_reason_and_a_mend(self):
        facts, missing = self.facts(HORA_MPI_PLUGIN="/nowhere/libhora_mpi.so")
        self.assertIn("/nowhere/libhora_mpi.so", facts["MPI plugin"])
        plugin = [lack for lack in missing if lack["what"].startswith("MPI plugin")]
        self.assertEqual(len(plugin), 1)
        self.assertIn("libopenmpi-dev", plugin[0]["mend"])
        self.assertFalse(plugin[0]["required"])

    def test_variables_that_cannot_be_are_told(self):
        facts, missing = self.facts(status=1, HORA_SILENCE_MS="soon")
        self.assertEqual(facts["environment"], "unusable")
        self.assertTrue(any("HORA_SILENCE_MS: 'soon'" in lack["what"] for lack in missing), missing)
        self.assertTrue(all(lack["required"] for lack in missing if "HORA_SILENCE_MS" in lack["what"]))
        _, missing = self.facts(HORA_SILENCE="1")
        self.assertTrue(any("did you mean HORA_SILENCE_MS?" in lack["what"] for lack in missing), missing)

    def test_says_the_same_to_people(self):
        status, output, _ = launchers.run([str(BUILD / "hora"), "doctor"], MPIRUN)
        self.assertEqual(status, 0)
        self.assertRegex(output, r"(?m)^launcher +mpirun of Open MPI \(OMPI_COMM_WORLD_RANK=2")
        self.assertRegex(output, r"(?m)^missing +")

    def test_refuses_what_it_does_not_know(self):
        status, _, errors = launchers.run([str(BUILD / "hora"), "doctor", "--yaml"])
        self.assertEqual(status, 2)
        self.assertIn("usage: hora doctor [--json]", errors)


if __name__ == "__main__":
    report.main()
