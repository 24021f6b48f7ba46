#!/usr/bin/env python3
"""hora.torch beside torch.distributed with gloo, in the same processes, at 2 and 4 ranks: horovod_checks.py and
optimizer_checks.py.

And what both faces do when ranks die in a call: death_checks.py.
"""

import unittest

import environment  # noqa: F401
import ranks
import report


class Horovod(unittest.TestCase):
    pass


class Optimizers(unittest.TestCase):
    pass


class Deaths(unittest.TestCase):
    pass


ranks.add_tests(Horovod, "horovod_checks.py", (2, 4))
ranks.add_tests(Optimizers, "optimizer_checks.py", (2, 4))
ranks.add_tests(Deaths, "death_checks.py", (7,), survivors=(1, 2))

if __name__ == "__main__":
    report.main()
