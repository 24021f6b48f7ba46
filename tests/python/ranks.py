"""Runs a program of checks as the ranks of a job, and makes a test of each check.

The program runs its checks (checks.py) one after the other on all ranks, and each rank tells how each ended.
"""

import re
import subprocess

import environment

SAID = re.compile(r"^\[(\d+)\] (ok|failed) (\w+)$", re.M)


class Job:
    """The end of `hora run -np SIZE python PROGRAM`."""

    def __init__(self, program, size, survivors, seconds=240):
        command = [environment.BIN / "hora", "run", "-np", size, "--min-np", survivors, environment.BIN / "python",
                   environment.HERE / program]
        try:
            done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  text=True, timeout=seconds)
            self.status, self.output = done.returncode, done.stdout
        except subprocess.TimeoutExpired as late:
            self.status, self.output = None, (late.stdout or b"").decode(errors="replace")
        self.said = {}  # check: {rank: word}
        for rank, word, check in SAID.findall(self.output):
            self.said.setdefault(check, {})[int(rank)] = word


def add_tests(case, program, sizes, survivors=None):
    """One test for each check and number of ranks; each number is one job, started by the first of its tests.

    `survivors`: the ranks that live to the end; all unless said otherwise.
    """
    jobs = {}

    def job(size):
        if size not in jobs:
            jobs[size] = Job(program, size, len(survivors or range(size)))
        return jobs[size]

    for size in sizes:
        for check in names_of(program, size):
            def test(self, size=size, check=check):
                environment.require()
                ended = job(size)
                expected = survivors or range(size)
                said = {rank: word for rank, word in ended.said.get(check, {}).items() if rank in expected}
                if said != dict.fromkeys(expected, "ok"):
                    self.fail(f"{check}: ranks said {said}; the job ended with {ended.status}\n{ended.output[-6000:]}")

            setattr(case, f"test_{check}_of_{size}", test)


def names_of(program, size):
    """The checks of a program, without running it: it imports what this interpreter may lack."""
    text = (environment.HERE / program).read_text()
    marks = "check|check_of_several" if size > 1 else "check"
    return re.findall(rf"^@(?:{marks})\ndef (\w+)\(", text, re.M)
