"""Runs a program of checks as the ranks of a job, and makes a test of each check.

The program (checks.py) runs its checks one after the other on all ranks, and each rank tells how each ended.
"""

import re
import subprocess

import environment

SAID = re.compile(r"^rank (\d+): (\w+) (\w+)$", re.M)


class Job:
    """The end of `hora run -np SIZE python PROGRAM`."""

    def __init__(self, program, size, seconds=240, arguments=()):
        command = [environment.BIN / "hora", "run", "-np", size, "--no-tags", environment.BIN / "python",
                   environment.HERE / program, *arguments]
        try:
            done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  text=True, timeout=seconds)
            self.status, self.output = done.returncode, done.stdout
        except subprocess.TimeoutExpired as late:
            self.status, self.output = None, (late.stdout or b"").decode(errors="replace")
        self.size = size
        self.said = {}  # check: {rank: word}
        for rank, word, check in SAID.findall(self.output):
            self.said.setdefault(check, {})[int(rank)] = word


def add_tests(case, program, sizes, checks):
    """One test for each check and number of ranks; each number is one job, started by the first of its tests."""
    jobs = {}

    def job(size):
        if size not in jobs:
            jobs[size] = Job(program, size)
        return jobs[size]

    for size in sizes:
        for check in checks:
            def test(self, size=size, check=check):
                environment.require()
                ended = job(size)
                said = ended.said.get(check, {})
                if set(said) == set(range(size)) and set(said.values()) == {"skipped"}:
                    self.skipTest(f"{check}: not for {size} ranks")
                if said != dict.fromkeys(range(size), "ok"):
                    self.fail(f"{check}: ranks said {said}; the job ended with {ended.status}\n{ended.output[-6000:]}")

            setattr(case, f"test_{check}_of_{size}", test)


def names_of(program):
    """The checks of a program, without running it: it imports what this interpreter may lack."""
    text = (environment.HERE / program).read_text()
    return re.findall(r"^@check\ndef (\w+)\(", text, re.M)
