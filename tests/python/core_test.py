#!/usr/bin/env python3
"""hora._core with NumPy: core_checks.py at 1, 2 and 4 ranks."""

import unittest

import environment  # noqa: F401
import ranks
import report


class Core(unittest.TestCase):
    pass


ranks.add_tests(Core, "core_checks.py", (1, 2, 4))

if __name__ == "__main__":
    report.main()
