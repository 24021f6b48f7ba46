#!/usr/bin/env python3
"""SIGKILLs random ranks at random moments, and checks that no survivor hangs, loses a step or gets other bits.

    kill_test.py --runs 100 --seconds 5              random runs; each must end within 5 s
    kill_test.py --minutes 10                        as many as fit
    kill_test.py --seed 7 --run 23                   one run again
    kill_test.py --measure 40 --role coordinator     the time from a kill to the next result [--gigabytes 4]
"""

import argparse
import collections
import json
import os
import pathlib
import random
import re
import sys
import time

from job import Job

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
RUN_SHARE = 0.15  # of the time limit, that the ranks work; the rest is for the start, the verdict and a loaded machine


def failpoints():
    """The names compiled into the library, from its sources."""
    names = set()
    for folder in ("src", "transports", "elastic"):
        for path in (ROOT / folder).rglob("*.cc"):
            names.update(re.findall(r'HORA_FAILPOINT\("([\w.]+)"\)', path.read_text()))
    return sorted(names)


class Plan:
    """What happens in one run; a function of seed and number."""

    def __init__(self, seed, number, arguments):
        chance = random.Random(seed * 1_000_003 + number)
        self.np = chance.choice((2, 3, 3, 4, 4))
        self.front = chance.choice(("ordered", "negotiated", "mixed"))
        self.bytes_most = chance.choice((64, 4096, 1 << 16, 1 << 20, 1 << 24))
        self.seed = chance.randrange(1 << 30)
        count = min(self.np - 1, chance.choice((1, 1, 1, 2, 3)))
        self.victims = chance.sample(range(self.np), count)
        work = arguments.seconds * RUN_SHARE
        self.moments = sorted(chance.uniform(0, work * 0.8) for _ in self.victims)
        if count > 1 and chance.random() < 0.5:  # the second dies while the first is being recovered from
            self.moments[1:] = [self.moments[0] + chance.uniform(0, 0.003) for _ in self.moments[1:]]
        self.may_die = list(self.victims)
        self.rule = None
        points = failpoints() if arguments.failpoints else []
        if points and chance.random() < 0.4:
            victim = self.victims.pop()
            self.moments.pop()
            point, hit = chance.choice(points), int(2 ** chance.uniform(0, 11))
            self.rule = (victim, f"rank={victim},point={point},hit={hit},act=kill")

    def __str__(self):
        parts = [f"{self.np} ranks, {self.front}, up to {self.bytes_most} B"]
        parts += [f"rank {v} at {m * 1000:.1f} ms" for v, m in zip(self.victims, self.moments)]
        if self.rule:
            parts.append(self.rule[1])
        return "; ".join(parts)


def check(job, plan, status):
    """What is wrong with a run that ended, in words; nothing when all holds."""
    if status != 0:
        return [f"hora run ended with status {status}"]
    survivors = sorted(job.said.get("end", ()))
    killed = [rank for rank in range(job.np) if rank not in survivors]
    if not set(killed) <= set(plan.may_die):
        return [f"founding ranks {killed} died, only {plan.may_die} should"]
    steps = {rank: job.records(rank) for rank in range(job.np)}
    first = steps[survivors[0]]
    for rank in survivors:
        if [record["step"] for record in steps[rank]] != list(range(1, len(first) + 1)):
            return [f"rank {rank} recorded {len(steps[rank])} steps, rank {survivors[0]} {len(first)}, or not in order"]
        for mine, theirs in zip(steps[rank], first):
            if any(mine[key] != theirs[key] for key in ("hash", "masks", "broken")):
                return [f"step {mine['step']} differs: rank {rank} {mine}, rank {survivors[0]} {theirs}"]
    return check_contributors(steps, first, survivors, killed)


def check_contributors(steps, first, survivors, killed):
    everyone = sum(1 << rank for rank in survivors)
    for record in first:
        for mask in range(1, 64):
            if not record["masks"] >> mask & 1:
                continue
            if mask & everyone != everyone:
                return [f"step {record['step']}: a result without a survivor ({mask:#b}, survivors {everyone:#b})"]
            for rank in killed:
                # Its last record may be missing, and it may have begun one step more.
                if mask >> rank & 1 and record["step"] > len(steps[rank]) + 2:
                    return [f"step {record['step']}: a result with rank {rank}, dead since step {len(steps[rank])}"]
    # What a dead rank released before its last step is what the survivors hold.
    for rank in killed:
        for mine, theirs in zip(steps[rank][:-1], first):
            if mine["hash"] != theirs["hash"]:
                return [f"step {mine['step']}: rank {rank} released other bits before it died"]
    return []


def start(build, plan, seconds, extra=()):
    command = [build / "tests" / "kill_worker", "--seconds", seconds, "--front", plan.front, "--seed", plan.seed,
               "--bytes-most", plan.bytes_most, "--records", "{folder}/records", "--ready", "{folder}/ready", *extra]
    rule = getattr(plan, "rule", None)
    return Job(build, plan.np, command, environment={"HORA_FAILPOINT": rule[1]} if rule else None,
               launcher=os.environ.get("KILL_LAUNCHER"))


def one_run(arguments, plan):
    """Problems, kills and steps of one run."""
    begin = time.monotonic()
    with start(arguments.build, plan, arguments.seconds * RUN_SHARE) as job:
        left = lambda: max(0.0, arguments.seconds - (time.monotonic() - begin))
        # A failpoint may kill a rank before it is ready.
        ready = job.wait_said("ready", job.np - (plan.rule is not None), left())
        origin = time.monotonic()
        for victim, moment in zip(plan.victims, plan.moments) if ready else ():
            job.pass_time(max(0.0, origin + moment - time.monotonic()))
            job.kill(victim)
        status = job.wait_end(left())
        if status is None:
            return [f"a hang: not ended after {arguments.seconds} s"], 0, 0, job.output() + job.stacks()
        return check(job, plan, status), job.np - len(job.said.get("end", ())), len(job.records(0)), job.output()


def kill_runs(arguments):
    print(f"seed {arguments.seed}; a run again: {sys.argv[0]} --build {arguments.build} "
          f"--seconds {arguments.seconds} --seed {arguments.seed} --run N", flush=True)
    numbers = [arguments.run] if arguments.run is not None else range(arguments.runs)
    end = time.monotonic() + arguments.minutes * 60 if arguments.minutes else None
    if end:
        numbers = iter(int, 1)  # without end; numbered below
    totals = collections.Counter()
    for position, number in enumerate(numbers):
        number = position if end else number
        if end and time.monotonic() > end:
            break
        plan = Plan(arguments.seed, number, arguments)
        problems, kills, steps, output = one_run(arguments, plan)
        totals["failed" if problems else "passed"] += 1
        totals["kills"] += kills
        totals["steps"] += steps
        if problems:
            print(f"run {number} ({plan}):", *problems, sep="\n  ", flush=True)
            print(output[-6000:], flush=True)
            if totals["failed"] >= 5:
                print("too many failures, giving up")
                break
        elif arguments.run is not None:
            print(f"run {number} ({plan}): {kills} kills, {steps} steps of rank 0, nothing wrong")
    print(f"{totals['kills']} kills in {totals['passed'] + totals['failed']} runs, {totals['steps']} steps of rank 0")
    print(f"{totals['passed']} passed, {totals['failed']} failed, 0 skipped")
    return 1 if totals["failed"] or not totals["passed"] else 0


class MeasuredPlan:
    front = "mixed"
    bytes_most = 4096
    np = 3

    def __init__(self, seed):
        self.seed = seed


def quantile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def measure(arguments):
    """The time from a SIGKILL to the next result in the view after it, on the slowest survivor."""
    print(f"seed {arguments.seed}; {arguments.measure} kills of a {arguments.role} of three ranks that holds "
          f"{arguments.gigabytes} GB", flush=True)
    chance = random.Random(arguments.seed)
    times = []
    for _ in range(arguments.measure):
        victim = 0 if arguments.role == "coordinator" else chance.choice((1, 2))
        plan = MeasuredPlan(chance.randrange(1 << 30))
        extra = ("--holder", victim, "--gigabytes", arguments.gigabytes)
        with start(arguments.build, plan, 1.0, extra) as job:
            if not job.wait_said("ready", job.np, 30 + 10 * arguments.gigabytes):
                print("the job did not start:", job.output()[-3000:])
                return 1
            job.pass_time(chance.uniform(0.05, 0.4))
            at = time.monotonic_ns()
            job.kill(victim)
            if job.wait_end(30 + 10 * arguments.gigabytes) != 0:
                print("a run failed:", job.output()[-3000:])
                return 1
            nexts = []
            for rank in range(plan.np):
                if rank != victim:
                    records = job.records(rank)
                    epoch = records[0]["epoch"]
                    nexts.append(min(r["time_ns"] for r in records if r["epoch"] > epoch and r["time_ns"] > at))
            times.append((max(nexts) - at) / 1e6)
    row = {"role": arguments.role, "gigabytes": arguments.gigabytes, "kills": len(times), "ms": {
        "p50": quantile(times, 0.5), "p95": quantile(times, 0.95), "max": max(times)}}
    print("kill to next result of {role} ({gigabytes} GB), {kills} kills: ".format(**row)
          + ", ".join(f"{name} {value:.2f} ms" for name, value in row["ms"].items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(row) + "\n")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "dev")
    parser.add_argument("--runs", type=int, default=int(os.environ.get("KILL_RUNS", "100")))
    parser.add_argument("--minutes", type=float, help="instead of --runs")
    parser.add_argument("--seconds", type=float, default=5.0, help="limit of one run; more is a hang")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    parser.add_argument("--run", type=int, help="only this run of the seed")
    parser.add_argument("--failpoints", action=argparse.BooleanOptionalAction, default=True,
                        help="also kill at the points compiled in (dev builds)")
    parser.add_argument("--measure", type=int, metavar="KILLS")
    parser.add_argument("--role", choices=("worker", "coordinator"), default="worker")
    parser.add_argument("--gigabytes", type=float, default=0.0)
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    return measure(arguments) if arguments.measure else kill_runs(arguments)


if __name__ == "__main__":
    sys.exit(main())
