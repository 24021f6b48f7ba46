#!/usr/bin/env python3
"""SIGKILLs random processes of a job that replaces them, newcomers included, and checks that the world grows back
while no step is lost and all who did a step hold the same bits.

    rejoin_test.py --runs 50 --transport tcp
    rejoin_test.py --seed 7 --run 23                 one run again
"""

import argparse
import collections
import os
import pathlib
import random
import sys
import time

from job import Job

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
RESTARTS = 12


class Plan:
    """What happens in one run; a function of seed and number."""

    def __init__(self, seed, number, arguments):
        chance = random.Random(seed * 1_000_003 + number)
        self.np = chance.choice((2, 3, 3, 4))
        self.bytes = chance.choice((8, 1024, 1 << 16, 1 << 20))
        self.state_bytes = chance.choice((1, 1 << 16, 1 << 24))
        # Each kill comes so long after the one before; a newcomer may be hit while it joins.
        self.pauses = [chance.uniform(0, arguments.seconds * 0.15) for _ in range(chance.choice((1, 1, 2, 3)))]
        self.choices = [chance.random() for _ in self.pauses]

    def __str__(self):
        pauses = ", ".join(f"{pause * 1000:.0f} ms" for pause in self.pauses)
        return f"{self.np} ranks, {self.bytes} B, state {self.state_bytes} B, kills after {pauses}"


def start(arguments, plan):
    command = [arguments.build / "tests" / "elastic_worker", "--records", "{folder}/records", "--ready",
               "{folder}/ready", "--size", plan.np, "--seconds", arguments.seconds * 0.2, "--patience",
               arguments.seconds * 0.4, "--bytes", plan.bytes, "--state-bytes", plan.state_bytes]
    environment = {"HORA_TRANSPORT": arguments.transport} if arguments.transport else None
    return Job(arguments.build, plan.np, command, environment=environment,
               run_options=("--max-restarts", str(RESTARTS)))


def check(job, plan, status, killed):
    """What is wrong with a run that ended, in words; nothing when all holds."""
    if status != 0:
        return [f"hora run ended with status {status}"]
    ended = job.said.get("end", set())
    # A kill may come after the last step, before its victim has said so.
    last = {process: job.records(process)[-1:] for process in ended}
    if not ended or any(not record or record[0]["contributors"] != plan.np for record in last.values()):
        return [f"the world of {plan.np} did not grow back: {last}"]
    hashes = {}
    for process in sorted(job.pids):
        records = job.records(process)
        steps = [record["step"] for record in records]
        if steps != list(range(steps[0], steps[0] + len(steps))) if steps else False:
            return [f"process {process} lost a step: {steps[:3]} ... {steps[-3:]}"]
        if process < plan.np and steps and steps[0] != 1:
            return [f"founder {process} began with step {steps[0]}"]
        for record in records:
            mine = (record["hash"], record["contributors"])
            if hashes.setdefault(record["step"], mine) != mine:
                return [f"step {record['step']} differs: {process} has {mine}, another {hashes[record['step']]}"]
    if len({record[0]["step"] for record in last.values()}) != 1:
        return [f"the processes ended after different steps: {last}"]
    return []


def one_run(arguments, plan):
    """Problems, kills, joins and steps of one run."""
    begin = time.monotonic()
    with start(arguments, plan) as job:
        left = lambda: max(0.0, arguments.seconds - (time.monotonic() - begin))
        job.wait_said("ready", plan.np, left())
        killed = set()
        for pause, choice in zip(plan.pauses, plan.choices):
            job.pass_time(min(pause, left()))
            alive = [process for process in job.alive() if process not in killed]
            victim = alive[int(choice * len(alive))] if alive else None
            # Only a member has the state: a newcomer that has not entered does not outlive the last one.
            others = [process for process in alive if process != victim and
                      (process < plan.np or process in job.said.get("entered", ()))]
            if others and not job.said.get("end"):
                if job.kill(victim):
                    killed.add(victim)
        status = job.wait_end(left())
        if status is None:
            return [f"a hang: not ended after {arguments.seconds} s"], killed, 0, 0, job.output() + job.stacks()
        steps = max((len(job.records(process)) for process in job.pids), default=0)
        joins = len(job.said.get("entered", ()))
        return check(job, plan, status, killed), killed, joins, steps, job.output()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "dev")
    parser.add_argument("--runs", type=int, default=int(os.environ.get("REJOIN_RUNS", "20")))
    parser.add_argument("--seconds", type=float, default=10.0, help="limit of one run; more is a hang")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    parser.add_argument("--run", type=int, help="only this run of the seed")
    parser.add_argument("--transport", choices=("shm", "tcp", "mixed"))
    arguments = parser.parse_args()
    transport = f" --transport {arguments.transport}" if arguments.transport else ""
    print(f"seed {arguments.seed}; a run again: {sys.argv[0]} --build {arguments.build} --seconds {arguments.seconds}"
          f"{transport} --seed {arguments.seed} --run N", flush=True)
    totals = collections.Counter()
    for number in [arguments.run] if arguments.run is not None else range(arguments.runs):
        plan = Plan(arguments.seed, number, arguments)
        problems, killed, joins, steps, output = one_run(arguments, plan)
        totals["failed" if problems else "passed"] += 1
        totals["kills"] += len(killed)
        totals["joins"] += joins
        totals["steps"] += steps
        if problems:
            print(f"run {number} ({plan}), killed {sorted(killed)}:", *problems, sep="\n  ", flush=True)
            print(output[-6000:], flush=True)
            if totals["failed"] >= 5:
                print("too many failures, giving up")
                break
    print(f"{totals['kills']} kills and {totals['joins']} joins in {totals['passed'] + totals['failed']} runs, "
          f"{totals['steps']} steps")
    print(f"{totals['passed']} passed, {totals['failed']} failed, 0 skipped")
    return 1 if totals["failed"] or not totals["joins"] else 0


if __name__ == "__main__":
    sys.exit(main())
