#!/usr/bin/env python3
"""By how much a newcomer lengthens the others' steps, beside a copy of the state: ranks step at a fixed pace, one is
SIGKILLed, and its replacement receives the registered state and enters.

    measure_join.py --gigabytes 1 --runs 5 [--transport tcp]
"""

import argparse
import pathlib
import re
import statistics
import sys

from job import Job

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
RANKS = 3


def one_run(arguments):
    """Milliseconds: the usual step, the longest one while the newcomer came, the copy, and from kill to entry."""
    bytes_of_state = int(arguments.gigabytes * (1 << 30))
    command = [arguments.build / "tests" / "elastic_worker", "--records", "{folder}/records", "--ready",
               "{folder}/ready", "--size", RANKS, "--seconds", 4 + 4 * arguments.gigabytes, "--patience", 60,
               "--bytes", 4096, "--state-bytes", bytes_of_state, "--pause-ms", arguments.pause_ms]
    environment = {"HORA_TRANSPORT": arguments.transport} if arguments.transport else None
    options = ("--max-restarts", "1")
    with Job(arguments.build, RANKS, command, environment=environment, run_options=options) as job:
        if not job.wait_said("running", RANKS, 60):
            sys.exit("the job did not start: " + job.output()[-3000:])
        job.pass_time(0.5)
        job.kill(RANKS - 1)
        if job.wait_end(120) != 0:
            sys.exit("a run failed: " + job.output()[-3000:])
        records = job.records(0)
        copied = float(re.search(r"copy of \d+ bytes: ([\d.]+) ms", job.output())[1])
    times = [(record["time_ns"], record["contributors"]) for record in records]
    steps = [((after[0] - before[0]) / 1e6, before[1], after[1]) for before, after in zip(times, times[1:])]
    usual = statistics.median(step for step, *_ in steps)
    gone = next(i for i, (_, before, after) in enumerate(steps) if after < before)
    entered = next(i for i, (_, before, after) in enumerate(steps) if after > before)
    # The step that the death interrupted is no part of the join.
    longest = max(step for step, *_ in steps[gone + 1:entered + 2])
    return usual, longest, copied, (times[entered + 1][0] - times[gone + 1][0]) / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "dev")
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--pause-ms", type=int, default=5, help="of each step, without communication")
    parser.add_argument("--transport", choices=("shm", "tcp", "mixed"))
    arguments = parser.parse_args()
    rows = [one_run(arguments) for _ in range(arguments.runs)]
    print(f"state of {arguments.gigabytes} GiB, {RANKS} ranks, {arguments.runs} runs; median (least to most), ms")
    names = ("usual step", "longest step of the join", "copy of the state", "death to entry")
    for name, values in zip(names, zip(*rows)):
        print(f"  {name:<26} {statistics.median(values):9.2f} ({min(values):.2f} to {max(values):.2f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
