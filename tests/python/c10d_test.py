#!/usr/bin/env python3
"""The backend "hora" of torch.distributed beside gloo, in the same processes: c10d_checks.py at 2 and 4 ranks."""

import unittest

import environment  # noqa: F401
import ranks
import report


class C10d(unittest.TestCase):
    pass


ranks.add_tests(C10d, "c10d_checks.py", (2, 4))

if __name__ == "__main__":
    report.main()
