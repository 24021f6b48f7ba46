#!/usr/bin/env python3
"""The backend "hora" of torch.distributed beside gloo, in the same processes: c10d_checks.py at 2 and 4 ranks."""

import os
import subprocess
import unittest

import environment
import ranks
import report


class C10d(unittest.TestCase):
    pass


class Debugging(unittest.TestCase):
    def test_torch_compares_the_calls(self):
        environment.require()
        command = [environment.BIN / "hora", "run", "-np", "2", environment.BIN / "python",
                   environment.HERE / "detail_program.py"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
                              env={**os.environ, "TORCH_DISTRIBUTED_DEBUG": "DETAIL", "GLOO_SOCKET_IFNAME": "lo"})
        self.assertEqual((done.returncode, done.stdout.count("as many as ranks")), (0, 2), done.stdout)


ranks.add_tests(C10d, "c10d_checks.py", (2, 4))

if __name__ == "__main__":
    report.main()
