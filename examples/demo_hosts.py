#!/usr/bin/env python3
"""Three hosts train together while one of them is cut off from the network: the others go on, the one that was cut off
stops by itself, and when its link is back, replacements start there and join.

The hosts are network namespaces of this machine, each with an sshd; `hora run --hosts` reaches them over ssh. It needs
root. Shows what happens as it happens, and writes build/demo-hosts/result.json. Exit status 0 only when no step was
lost and all hold the same parameters at the end; 2 when there can be no such hosts here.
"""

import argparse
import json
import os
import pathlib
import signal
import sys
import time

import namespaces
import show

HOSTS = 3
CUT = 1  # index of the host that is cut off
CUT_AFTER = 0.1  # of the steps
ACCURACY_LEAST = 0.95
NEXT_RESULT_MS_MOST = 5000  # far more than it takes: this is about order of magnitude


class Demo(show.Show):
    FAILURE = "the link was back"

    def __init__(self, arguments, hosts):
        self.arguments = arguments
        self.hosts = hosts
        self.per_host = arguments.ranks_per_host
        self.size = HOSTS * self.per_host
        # As many again as are lost: a replacement may come while the network is not whole yet.
        self.restarts = 2 * self.per_host
        super().__init__(arguments.out, arguments.steps, self.size, self.restarts)
        self.address = hosts.addresses[CUT]
        first = CUT * self.per_host
        self.cut_off = self.ranks[first:first + self.per_host]
        self.waiting = set()  # numbers of those that have no result after the cut
        self.cut_at = self.heal_at = self.view_ms = self.next_ms = self.lost_ms = None
        self.stopped = {}  # rank number of the cut-off side: ms after the cut, and why
        self.others_stopped = []  # numbers
        self.views_of_cut_off = 0
        self.joined = {}  # number: the host it runs on, and ms after the link was back

    def failed_at(self):
        return self.heal_at

    # The job --------------------------------------------------------------------------------------------------------

    def train(self):
        places = ",".join(f"{address}:{self.per_host}" for address in self.hosts.addresses)
        command = self.hosts.command(
            self.arguments.build / "hora", "run", "-np", self.size, "--hosts", places, "--ssh", self.hosts.shell,
            "--min-np", 2, "--max-restarts", self.restarts,
            "--host-silence", self.arguments.host_silence,
            self.arguments.build / "examples" / "train_digits", "--data", self.arguments.data, "--steps", self.steps,
            "--events", self.out, "--pace", self.arguments.pace)
        return self.run(command, self.arguments.timeout, {"HORA_SILENCE_MS": str(self.arguments.silence_ms)})

    def since_cut(self, at=None):
        return ((at or time.monotonic()) - self.cut_at) * 1000

    def watch(self):
        if self.cut_at is None:
            if all(rank.pid and rank.step > CUT_AFTER * self.steps for rank in self.ranks[:self.size]):
                self.cut()
            return
        if self.lost_ms is None and f"host {self.address} is lost" in self.log.read_text(errors="replace"):
            self.lost_ms = self.since_cut()
            self.say(f"hora run has given up host {self.address}, {self.lost_ms:.0f} ms after the cut")
        if self.heal_at is None and self.lost_ms is not None and len(self.stopped) == self.per_host:
            self.hosts.set_link(CUT, "up")
            self.heal_at = time.monotonic()
            self.say(f"the link of host {self.address} is back")

    def cut(self):
        self.cut_at = time.monotonic()
        self.hosts.set_link(CUT, "down")
        for rank in self.cut_off:
            rank.dead = True
        self.waiting = {rank.number for rank in self.survivors()}
        numbers = ", ".join(str(rank.number) for rank in self.cut_off)
        self.say(f"host {self.address} is cut off, and with it rank {numbers}, in step {self.cut_off[0].step + 1}",
                 self.cut_at)

    def on_view(self, rank, event):
        super().on_view(rank, event)
        if self.cut_at is None:
            return
        if rank in self.cut_off:
            self.views_of_cut_off += 1
        elif self.view_ms is None:
            self.view_ms = self.since_cut(event["t"])

    def on_result(self, rank, event):
        if rank.number not in self.waiting:
            return
        self.waiting.discard(rank.number)
        since = self.since_cut(event["t"])
        self.next_ms = max(self.next_ms or 0.0, since)
        self.say(f"rank {rank.number} has the next result, {since:.0f} ms after the cut", event["t"])
        if not self.waiting:
            self.say(f"all {event['size']} ranks of the other hosts go on")

    def on_stopped(self, rank, event):
        super().on_stopped(rank, event)
        if self.cut_at is not None and rank in self.cut_off:
            self.stopped[rank.number] = (self.since_cut(event["t"]), event["why"])
        else:
            self.others_stopped.append(rank.number)
            rank.dead = True

    def on_entered(self, rank, event):
        super().on_entered(rank, event)
        self.joined[rank.number] = (self.hosts.address_of(rank.pid), (event["t"] - self.heal_at) * 1000)

    # What it comes to -----------------------------------------------------------------------------------------------

    def result(self):
        rounded = lambda value: None if value is None else round(value, 1)
        return {
            "steps": self.steps,
            "steps_missing": self.steps_missing(),
            "world_sizes": self.world_sizes(),
            "silence_ms": self.arguments.silence_ms,
            "cut_to_view_ms": rounded(self.view_ms),
            "cut_to_next_ms": rounded(self.next_ms),
            "cut_to_lost_ms": rounded(self.lost_ms),
            "cut_off": [{"rank": number, "stopped_ms": rounded(at), "why": why}
                        for number, (at, why) in sorted(self.stopped.items())],
            "joined": [{"process": number, "host": host, "after_link_ms": rounded(at)}
                       for number, (host, at) in sorted(self.joined.items())],
            **self.outcome(),
        }

    def failures(self, result, status):
        """What does not hold, in words."""
        hosts = [one["host"] for one in result["joined"]]
        checks = [
            (status == 0, f"hora run ended with status {status}"),
            (result["steps_missing"] == 0, f"{result['steps_missing']} steps are missing"),
            (self.cut_at is not None, "no host was cut off"),
            (not self.waiting and self.next_ms is not None, "a rank of the other hosts had no result after the cut"),
            ((self.next_ms or 0) <= NEXT_RESULT_MS_MOST, f"the next result came later than {NEXT_RESULT_MS_MOST} ms"),
            (len(self.stopped) == self.per_host, "a rank that was cut off did not stop by itself"),
            (not self.others_stopped, f"stopped, but not cut off: rank {self.others_stopped}"),
            (self.views_of_cut_off == 0, "the cut-off side went on in a view of its own"),
            (result["world_sizes"][-1] == self.size, f"the world did not grow back to {self.size}"),
            (hosts == [self.address] * self.per_host, f"replacements joined on {hosts}, not on {self.address}"),
            (result["hashes_equal"], "the ranks hold different parameters"),
            (result["survivor_pids_unchanged"], "a survivor is another process than at the start"),
            (result["accuracy"] >= ACCURACY_LEAST, f"the accuracy is below {ACCURACY_LEAST:.0%}"),
        ]
        return [text for holds, text in checks if not holds]

    def tell(self, result):
        told = lambda value: "never" if value is None else f"{value:.0f} ms"
        rows = [
            ("steps", f"{result['steps']}, {result['steps_missing']} missing"),
            ("views", " -> ".join(f"{size} ranks" for size in result["world_sizes"])),
            (f"cut to new view (silence of {result['silence_ms']} ms)", told(result["cut_to_view_ms"])),
            ("cut to next result, last of the others", told(result["cut_to_next_ms"])),
            ("cut to host given up by hora run", told(result["cut_to_lost_ms"])),
        ]
        for one in result["cut_off"]:
            rows.append((f"cut to stop of rank {one['rank']}, cut off", told(one["stopped_ms"])))
        for one in result["joined"]:
            rows.append((f"link back to member, [{one['process']}] on {one['host']}", told(one["after_link_ms"])))
        rows += self.rows(result)
        rows.append(("test accuracy", f"{result['accuracy']:.2%}"))
        self.table(rows)


def perform(arguments):
    with namespaces.Namespaces(HOSTS) as hosts:
        demo = Demo(arguments, hosts)
        print(f"{HOSTS} hosts of {arguments.ranks_per_host} ranks train on handwritten digits; {demo.address} will be "
              "cut off", flush=True)
        status = demo.train()
    result = demo.result()
    (demo.out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    demo.events.close()
    demo.tell(result)
    if demo.finish(demo.failures(result, status)) != 0:
        return 1
    print(f"all of it held; {demo.out / 'result.json'}")
    return 0


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=root / "build" / "release", help="build directory")
    parser.add_argument("--out", type=pathlib.Path, default=root / "build" / "demo-hosts", help="where results go")
    parser.add_argument("--data", type=pathlib.Path, default=root / "examples" / "data" / "optdigits.csv")
    parser.add_argument("--ranks-per-host", type=int, default=2 if len(os.sched_getaffinity(0)) >= HOSTS else 1)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--pace", type=int, default=8, help="least ms of a step: the training must outlast the cut")
    parser.add_argument("--silence-ms", type=int, default=500)
    parser.add_argument("--host-silence", type=float, default=12, help="s; ranks without a quorum stop after 10")
    parser.add_argument("--timeout", type=float, default=240.0, help="seconds")
    arguments = parser.parse_args()
    arguments.build, arguments.out = arguments.build.resolve(), arguments.out.resolve()
    why_not = namespaces.missing()
    if why_not:
        print(f"demo-hosts cannot run here: {why_not}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return perform(arguments)
    except KeyboardInterrupt:
        print("\ninterrupted; the hosts are removed", file=sys.stderr)
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
