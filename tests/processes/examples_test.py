#!/usr/bin/env python3
"""The examples do what the README says of them."""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

import report
from job import Job

BUILD = report.build_directory()
SECONDS = 120 if report.sanitizers(BUILD) else 30


class Examples(unittest.TestCase):
    def run_example(self, name, np, *arguments, min_np=1):
        with Job(BUILD, np, [BUILD / "examples" / name, *arguments], min_np=min_np) as job:
            status = job.wait_end(SECONDS)
            text = job.output()
            self.assertEqual(status, 0, f"{name} ended with {status}\n{text}{job.stacks()}")
        return text

    def test_allreduce(self):
        text = self.run_example("01_allreduce", 3)
        for rank in range(3):
            self.assertIn(f"rank {rank} of 3: sum 6 of 3 ranks", text)

    def test_allreduce_without_a_launcher(self):
        done = subprocess.run([BUILD / "examples" / "01_allreduce"], capture_output=True, text=True, timeout=SECONDS)
        self.assertEqual((done.returncode, done.stdout), (0, "rank 0 of 1: sum 1 of 1 ranks\n"), done.stderr)

    def test_named_tensors(self):
        text = self.run_example("02_named_tensors", 3)
        for rank in range(3):
            self.assertRegex(text, rf"rank {rank}: \d+ of 20 .*; average 1; refused: mismatch: .*odd")

    def test_in_place_recovery(self):
        text = self.run_example("03_in_place_recovery", 3, min_np=2)
        for step in range(1, 11):
            wanted = 3 if step < 5 else 2
            self.assertEqual(len(re.findall(rf"step {step}: {wanted} from {wanted} ranks", text)), wanted, text)
        self.assertEqual(len(re.findall("view 2 with 2 ranks follows view 1 with 3", text)), 2, text)

    def test_elastic(self):
        # Every step has two ordered operations, its own and that of step().
        death = {"HORA_FAILPOINT": "rank=2,point=engine.ordered_begun,hit=20,act=kill"}
        with Job(BUILD, 3, [BUILD / "examples" / "04_elastic", "60", "20"], min_np=None, environment=death,
                 run_options=("--max-restarts", "1")) as job:
            status = job.wait_end(SECONDS)
            text = job.output()
        self.assertEqual(status, 0, text)
        self.assertRegex(text, r"step \d+: from 3 to 2 ranks")
        self.assertRegex(text, r"step \d+: from 2 to 3 ranks")
        self.assertIn("60 steps, weights are 0.9700, 3 ranks at the end", text)

    def test_training_survives_two_kills(self):
        with tempfile.TemporaryDirectory() as out:
            command = [sys.executable, report.ROOT / "examples" / "demo.py", "--build", BUILD, "--out", out,
                       "--steps", "3000", "--timeout", str(SECONDS)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=3 * SECONDS)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            result = json.loads((pathlib.Path(out) / "result.json").read_text())
            page = (pathlib.Path(out) / "report.html").read_text()
        self.assertIn("2 processes killed, 2 newcomers taken in, no step lost", page)
        self.assertEqual(result["steps_missing"], 0)
        self.assertEqual(result["world_sizes"], [4, 3, 4, 3, 4])
        self.assertEqual([kill["role"] for kill in result["kills"]], ["worker", "coordinator"])
        self.assertTrue(result["hashes_equal"] and result["survivor_pids_unchanged"])
        self.assertGreaterEqual(result["accuracy"], 0.95)


if __name__ == "__main__":
    report.main()
