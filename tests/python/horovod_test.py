#!/usr/bin/env python3
"""hora.torch beside torch.distributed with gloo, in the same processes: horovod_checks.py at 2 and 4 ranks."""

import unittest

import environment  # noqa: F401
import ranks
import report


class Horovod(unittest.TestCase):
    pass


ranks.add_tests(Horovod, "horovod_checks.py", (2, 4), ranks.names_of("horovod_checks.py"))

if __name__ == "__main__":
    report.main()
