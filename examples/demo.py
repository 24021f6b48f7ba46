#!/usr/bin/env python3
"""The main job: four processes train a network on handwritten digits while a worker and the coordinator are SIGKILLed,
and replacements join.

Shows what happens as it happens, compares with a single process, and writes build/demo/{result.json,report.html}. Exit
status 0 only when no step was lost, all survivors hold the same parameters, and the network learned as well as alone.
"""

import argparse
import json
import os
import pathlib
import selectors
import signal
import subprocess
import sys
import time

import report

RANKS = 4
ACCURACY_LEAST = 0.95
ACCURACY_DISTANCE_MOST = 0.01
KILLS = (("worker", 0.2), ("coordinator", 0.55))  # role, and the share of the steps after which it dies


class Rank:
    """What one process has told so far, and the pipe it tells it through."""

    def __init__(self, number, directory):
        self.number = number  # of `hora run`: the founding rank, or that of a replacement
        self.founder = number < RANKS
        self.rank = number  # in the current view
        self.entered = self.founder
        self.pid = None
        self.epoch = 1
        self.size = RANKS
        self.step = 0
        self.first_step = 0  # before the first one that it did as a member
        self.steps = []
        self.results = {}  # epoch: time of the first result in that view
        self.end = None
        self.dead = False
        self.rest = b""
        path = directory / f"rank-{number}.jsonl"
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        self.file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def lines(self):
        """The complete lines that have arrived."""
        try:
            data = os.read(self.file, 1 << 16)
        except BlockingIOError:
            return []
        *lines, self.rest = (self.rest + data).split(b"\n")
        return [json.loads(line) for line in lines]


class Kill:
    def __init__(self, role, victim, step, survivors):
        self.role = role
        self.victim = victim
        self.step = step  # the one that it interrupted
        self.epoch = victim.epoch  # the view that it interrupted
        self.waiting = set(survivors)
        self.next_ms = None
        self.time = time.monotonic()
        os.kill(victim.pid, signal.SIGKILL)

    def result(self, number, at):
        """Rank `number` has its first result of the view after the kill. True when it was the last of the survivors."""
        self.waiting.discard(number)
        self.next_ms = max(self.next_ms or 0.0, (at - self.time) * 1000)
        return not self.waiting


class Demo:
    def __init__(self, arguments):
        self.arguments = arguments
        self.steps = arguments.steps
        self.out = arguments.out
        self.out.mkdir(parents=True, exist_ok=True)
        self.program = arguments.build / "examples" / "train_digits"
        self.ranks = [Rank(number, self.out) for number in range(RANKS + len(KILLS))]
        self.kills = []
        self.views = {1: (0.0, RANKS)}  # epoch: time and size
        self.loss = float("nan")
        self.events = open(self.out / "events.jsonl", "w", encoding="utf-8")
        self.over = False  # the job has ended: nobody is left to kill
        self.live = sys.stderr.isatty()
        self.drawn = 0.0
        self.start = time.monotonic()

    # What the person at the terminal sees ---------------------------------------------------------------------------

    def say(self, text, at=None):
        self.clear()
        print(f"{((at or time.monotonic()) - self.start) * 1000:9.1f} ms  {text}", flush=True)

    def clear(self):
        if self.live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def draw(self):
        now = time.monotonic()
        if not self.live or now - self.drawn < 0.05:
            return
        self.drawn = now
        step = max(rank.step for rank in self.ranks)
        bar = "#" * (30 * step // self.steps)
        alive = sum(rank.entered and not rank.dead for rank in self.ranks)
        epoch = max(rank.epoch for rank in self.ranks)
        sys.stderr.write(
            f"\r\x1b[K[{bar:<30}] step {step}/{self.steps}  view {epoch}  {alive} ranks  loss {self.loss:.4f}"
        )
        sys.stderr.flush()

    # The job --------------------------------------------------------------------------------------------------------

    def run(self):
        log = open(self.out / "hora_run.log", "wb")
        command = [
            self.arguments.build / "hora", "run", "-np", str(RANKS), "--min-np", "2", "--max-np", str(RANKS),
            "--max-restarts", str(len(KILLS)), self.program,
            "--data", self.arguments.data, "--steps", str(self.steps), "--events", self.out,
        ]
        job = subprocess.Popen(list(map(str, command)), stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        selector = selectors.DefaultSelector()
        for rank in self.ranks:
            selector.register(rank.file, selectors.EVENT_READ, rank)
        deadline = time.monotonic() + self.arguments.timeout
        open_ranks = set(self.ranks)
        while open_ranks or job.poll() is None:
            if time.monotonic() > deadline:
                os.killpg(job.pid, signal.SIGKILL)
                self.say(f"the job did not end within {self.arguments.timeout} s")
                break
            if job.poll() is not None:  # only what is left in the pipes
                self.over = True
                for rank in self.ranks:
                    self.take(rank)
                break
            for key, _ in selector.select(0.1):
                rank = key.data
                self.take(rank)
                if rank.dead or rank.end:
                    if rank in open_ranks:
                        selector.unregister(rank.file)
                        open_ranks.discard(rank)
            self.draw()
        self.clear()
        return job.wait()

    def take(self, rank):
        for event in rank.lines():
            self.record(rank.number, event)
            getattr(self, "on_" + event["event"])(rank, event)

    def record(self, number, event):
        """Keeps what a process told, and what was done to it, for the report."""
        self.events.write(json.dumps({**event, "process": number}) + "\n")

    def on_start(self, rank, event):
        rank.pid = event["pid"]
        if rank.founder:
            self.say(f"rank {rank.number} is process {rank.pid}", event["t"])

    def on_submitted(self, rank, event):
        if rank.dead or self.over or len(self.kills) == len(KILLS):
            return
        role, share = KILLS[len(self.kills)]
        due = event["step"] > share * self.steps and event["step"] > rank.step
        settled = not self.kills or not self.kills[-1].waiting
        coordinator = rank.rank == 0
        if not due or not settled or coordinator != (role == "coordinator"):
            return
        others = [other for other in self.ranks if other is not rank and other.entered and not other.dead]
        if len(others) < RANKS - 1 or any(other.pid is None for other in others):
            return  # the world is not whole yet
        rank.dead = True
        self.kills.append(Kill(role, rank, event["step"], [other.number for other in others]))
        self.record(rank.number, {"event": "kill", "t": self.kills[-1].time, "epoch": rank.epoch, "role": role,
                                  "step": event["step"]})
        self.say(
            f"SIGKILL to rank {rank.number} (the {role}, process {rank.pid}) in step {event['step']}",
            self.kills[-1].time,
        )

    def on_view(self, rank, event):
        if not rank.entered:  # what a newcomer sees until then is its donor's view
            return
        rank.rank, rank.epoch, rank.size = event["rank"], event["epoch"], event["size"]
        self.say(f"rank {rank.number} is rank {rank.rank} of {rank.size} in view {rank.epoch}", event["t"])
        self.views.setdefault(rank.epoch, (event["t"], rank.size))

    def on_result(self, rank, event):
        for kill in self.kills:
            if rank.number in kill.waiting and event["epoch"] > kill.epoch:
                since = (event["t"] - kill.time) * 1000
                self.say(f"rank {rank.number} has the next result, {since:.2f} ms after the kill", event["t"])
                if kill.result(rank.number, event["t"]):
                    self.say(f"all {event['size']} survivors go on")

    def on_joining(self, rank, event):
        self.say(f"process {rank.pid} joins as [{rank.number}]", event["t"])

    def on_state(self, rank, event):
        self.say(f"[{rank.number}] has the state of step {event['step']}, and catches up", event["t"])

    def on_entered(self, rank, event):
        rank.entered = True
        rank.rank, rank.epoch, rank.size = event["rank"], event["epoch"], event["size"]
        rank.step = rank.first_step = event["step"]
        self.views.setdefault(rank.epoch, (event["t"], rank.size))
        since = (event["t"] - self.kills[-1].time) * 1000
        self.say(f"[{rank.number}] enters as rank {rank.rank} of {rank.size} after step {rank.step}, "
                 f"{since:.0f} ms after the kill", event["t"])

    def on_step(self, rank, event):
        rank.step = event["step"]
        rank.steps.append(event["step"])
        if rank.rank == 0:
            self.loss = event["loss"]

    def on_end(self, rank, event):
        rank.end = event

    # What it comes to -----------------------------------------------------------------------------------------------

    def single(self):
        """The same job in one process, without a launcher. Returns its accuracy."""
        events = self.out / "single"
        events.mkdir(exist_ok=True)
        path = events / "rank-0.jsonl"
        path.unlink(missing_ok=True)
        command = [self.program, "--data", self.arguments.data, "--steps", str(self.steps), "--events", events]
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL, timeout=self.arguments.timeout)
        last = json.loads(path.read_text().splitlines()[-1])
        return last["accuracy"] if last["event"] == "end" else 0.0

    def result(self, accuracy_single):
        survivors = [rank for rank in self.ranks if rank.entered and not rank.dead]
        founders = [rank for rank in survivors if rank.founder]
        ends = [rank.end for rank in survivors]
        missing = max(len(set(range(rank.first_step + 1, self.steps + 1)) - set(rank.steps)) for rank in survivors)
        # A step done twice or out of order is as bad as one left out.
        missing += sum(rank.steps != sorted(set(rank.steps)) for rank in survivors)
        complete = all(ends)
        # Ranks that leave after the training change the view too; that is no part of it.
        finished = min((end["t"] for end in ends if end), default=float("inf"))
        return {
            "steps": self.steps,
            "steps_missing": missing,
            "world_sizes": [size for _, (at, size) in sorted(self.views.items()) if at < finished],
            "kills": [
                {
                    "rank": kill.victim.number,
                    "role": kill.role,
                    "kill_to_next_ms": round(kill.next_ms, 3) if kill.next_ms is not None else None,
                }
                for kill in self.kills
            ],
            "hashes_equal": complete and len({end["hash"] for end in ends}) == 1 and ends[0]["hashes_equal"],
            "survivor_pids_unchanged": complete and all(rank.pid == rank.end["pid"] for rank in founders),
            "accuracy": min(end["accuracy"] for end in ends) if complete else 0.0,
            "accuracy_single": accuracy_single,
        }

    def failures(self, result, status):
        """What does not hold, in words."""
        checks = [
            (status == 0, f"hora run ended with status {status}"),
            (result["steps_missing"] == 0, f"{result['steps_missing']} steps are missing"),
            (len(self.kills) == len(KILLS), f"only {len(self.kills)} of {len(KILLS)} kills took place"),
            (not any(kill.waiting for kill in self.kills), "a survivor had no result after a kill"),
            (result["world_sizes"][-1] == RANKS, f"the world did not grow back to {RANKS}"),
            (result["hashes_equal"], "the survivors hold different parameters"),
            (result["survivor_pids_unchanged"], "a survivor is another process than at the start"),
            (result["accuracy"] >= ACCURACY_LEAST, f"the accuracy is below {ACCURACY_LEAST:.0%}"),
            (
                abs(result["accuracy"] - result["accuracy_single"]) <= ACCURACY_DISTANCE_MOST,
                "the accuracy is more than 1 point from that of a single process",
            ),
        ]
        return [text for holds, text in checks if not holds]

    def table(self, result):
        survivors = [rank for rank in self.ranks if rank.entered and not rank.dead]
        rows = [("steps", f"{result['steps']}, {result['steps_missing']} missing")]
        rows.append(("views", " -> ".join(f"{size} ranks" for size in result["world_sizes"])))
        for kill, told in zip(self.kills, result["kills"]):
            name = f"kill to next result, {told['role']} (rank {told['rank']}, step {kill.step})"
            rows.append((name, "none" if told["kill_to_next_ms"] is None else f"{told['kill_to_next_ms']:.2f} ms"))
        pids = ", ".join(f"rank {rank.number}: {rank.pid}" for rank in survivors if rank.founder)
        same = "as at the start" if result["survivor_pids_unchanged"] else "NOT as at the start"
        rows.append(("processes of the survivors", f"{pids}, {same}"))
        hashes = ", ".join(sorted({rank.end["hash"] for rank in survivors if rank.end}))
        equal = "equal on all ranks" if result["hashes_equal"] else "NOT equal on all ranks"
        joined = ", ".join(f"[{rank.number}]: {rank.pid}, from step {rank.first_step + 1}"
                           for rank in survivors if not rank.founder)
        rows.append(("replacements", joined or "none"))
        rows.append(("hash of the parameters", f"{hashes}, {equal}"))
        rows.append(("test accuracy", f"{result['accuracy']:.2%}; of a single process {result['accuracy_single']:.2%}"))
        width = max(len(name) for name, _ in rows)
        print()
        for name, value in rows:
            print(f"  {name:<{width}}  {value}")
        print()


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=root / "build" / "release", help="build directory")
    parser.add_argument("--out", type=pathlib.Path, default=root / "build" / "demo", help="where results go")
    parser.add_argument("--data", type=pathlib.Path, default=root / "examples" / "data" / "optdigits.csv")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds, of each of the two runs")
    demo = Demo(parser.parse_args())
    print(f"{RANKS} processes train on handwritten digits; a worker and the coordinator will be SIGKILLed", flush=True)
    status = demo.run()
    print("the same job in a single process ...", flush=True)
    result = demo.result(demo.single())
    (demo.out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    demo.events.close()
    page = report.write(demo.out)
    demo.table(result)
    failures = demo.failures(result, status)
    for text in failures:
        print(f"FAILED: {text}", file=sys.stderr)
    if failures:
        sys.stderr.write((demo.out / "hora_run.log").read_text(errors="replace")[-4000:])
        return 1
    print(f"all of it held; {demo.out / 'result.json'}, {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
