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
import signal
import subprocess
import sys
import time

import report
import show

RANKS = 4
ACCURACY_LEAST = 0.95
ACCURACY_DISTANCE_MOST = 0.01
KILLS = (("worker", 0.2), ("coordinator", 0.55))  # role, and the share of the steps after which it dies


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


class Demo(show.Show):
    FAILURE = "the kill"

    def __init__(self, arguments):
        super().__init__(arguments.out, arguments.steps, RANKS, len(KILLS))
        self.arguments = arguments
        self.program = arguments.build / "examples" / "train_digits"
        self.kills = []

    def failed_at(self):
        return self.kills[-1].time

    # The job --------------------------------------------------------------------------------------------------------

    def train(self):
        return self.run([
            self.arguments.build / "hora", "run", "-np", RANKS, "--min-np", "2", "--max-restarts", len(KILLS),
            self.program, "--data", self.arguments.data, "--steps", self.steps, "--events", self.out,
        ], self.arguments.timeout)

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

    def on_result(self, rank, event):
        for kill in self.kills:
            if rank.number in kill.waiting and event["epoch"] > kill.epoch:
                since = (event["t"] - kill.time) * 1000
                self.say(f"rank {rank.number} has the next result, {since:.2f} ms after the kill", event["t"])
                if kill.result(rank.number, event["t"]):
                    self.say(f"all {event['size']} survivors go on")

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
        return {
            "steps": self.steps,
            "steps_missing": self.steps_missing(),
            "world_sizes": self.world_sizes(),
            "kills": [
                {
                    "rank": kill.victim.number,
                    "role": kill.role,
                    "kill_to_next_ms": round(kill.next_ms, 3) if kill.next_ms is not None else None,
                }
                for kill in self.kills
            ],
            **self.outcome(),
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

    def tell(self, result):
        rows = [("steps", f"{result['steps']}, {result['steps_missing']} missing")]
        rows.append(("views", " -> ".join(f"{size} ranks" for size in result["world_sizes"])))
        for kill, told in zip(self.kills, result["kills"]):
            name = f"kill to next result, {told['role']} (rank {told['rank']}, step {kill.step})"
            rows.append((name, "none" if told["kill_to_next_ms"] is None else f"{told['kill_to_next_ms']:.2f} ms"))
        rows += self.rows(result)
        rows.append(("test accuracy", f"{result['accuracy']:.2%}; of a single process {result['accuracy_single']:.2%}"))
        self.table(rows)


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
    status = demo.train()
    print("the same job in a single process ...", flush=True)
    result = demo.result(demo.single())
    (demo.out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    demo.events.close()
    page = report.write(demo.out)
    demo.tell(result)
    if demo.finish(demo.failures(result, status)) != 0:
        return 1
    print(f"all of it held; {demo.out / 'result.json'}, {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
