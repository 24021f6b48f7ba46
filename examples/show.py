"""A training under `hora run`, shown as it happens: what its processes tell, and what a person at the terminal sees."""

import json
import os
import selectors
import signal
import subprocess
import sys
import time


class Rank:
    """What one process has told so far, and the pipe it tells it through."""

    def __init__(self, number, founders, directory):
        self.number = number  # of `hora run`: the founding rank, or that of a replacement
        self.founder = number < founders
        self.rank = number  # in the current view
        self.entered = self.founder
        self.pid = None
        self.epoch = 1
        self.size = founders
        self.step = 0
        self.first_step = 0  # before the first one that it did as a member
        self.steps = []
        self.end = None
        self.dead = False  # or no member any more
        self.rest = b""
        self.closed = False
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
        self.closed = not data
        *lines, self.rest = (self.rest + data).split(b"\n")
        return [json.loads(line) for line in lines]


class Show:
    """`founders` ranks and up to `replacements` further processes, `steps` steps."""

    def __init__(self, out, steps, founders, replacements):
        self.out = out
        self.out.mkdir(parents=True, exist_ok=True)
        self.log = self.out / "hora_run.log"
        self.steps = steps
        self.ranks = [Rank(number, founders, out) for number in range(founders + replacements)]
        self.views = {1: (0.0, founders)}  # epoch: time and size
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

    @staticmethod
    def table(rows):
        width = max(len(name) for name, _ in rows)
        print()
        for name, value in rows:
            print(f"  {name:<{width}}  {value}")
        print()

    # The job --------------------------------------------------------------------------------------------------------

    def run(self, command, timeout, environment=None):
        """Returns the job's exit status."""
        with open(self.log, "wb") as log:
            job = subprocess.Popen(list(map(str, command)), stdout=log, stderr=subprocess.STDOUT,
                                   env={**os.environ, **(environment or {})}, start_new_session=True)
        try:
            self.follow(job, timeout)
        finally:
            if job.poll() is None:
                os.killpg(job.pid, signal.SIGKILL)
            self.clear()
            status = job.wait()
        return status

    def follow(self, job, timeout):
        selector = selectors.DefaultSelector()
        for rank in self.ranks:
            selector.register(rank.file, selectors.EVENT_READ, rank)
        deadline = time.monotonic() + timeout
        while job.poll() is None:
            if time.monotonic() > deadline:
                return self.say(f"the job did not end within {timeout} s")
            for key, _ in selector.select(0.05):
                rank = key.data
                self.take(rank)
                if rank.closed:
                    selector.unregister(rank.file)
            self.watch()
            self.draw()
        self.over = True
        for rank in self.ranks:  # only what is left in the pipes
            self.take(rank)

    def watch(self):
        """Called again and again while the job runs."""

    def take(self, rank):
        for event in rank.lines():
            self.record(rank.number, event)
            getattr(self, "on_" + event["event"])(rank, event)

    def record(self, number, event):
        """Keeps what a process told, and what was done to it, for the report."""
        self.events.write(json.dumps({**event, "process": number}) + "\n")

    # What processes tell --------------------------------------------------------------------------------------------

    def on_start(self, rank, event):
        rank.pid = event["pid"]
        if rank.founder:
            self.say(f"rank {rank.number} is process {rank.pid}", event["t"])

    def on_submitted(self, rank, event):
        """A step's gradients are under way."""

    def on_view(self, rank, event):
        if not rank.entered:  # what a newcomer sees until then is its donor's view
            return
        rank.rank, rank.epoch, rank.size = event["rank"], event["epoch"], event["size"]
        self.say(f"rank {rank.number} is rank {rank.rank} of {rank.size} in view {rank.epoch}", event["t"])
        self.views.setdefault(rank.epoch, (event["t"], rank.size))

    def on_result(self, rank, event):
        """The first result of a view."""

    def on_joining(self, rank, event):
        self.say(f"process {rank.pid} joins as [{rank.number}]", event["t"])

    def on_state(self, rank, event):
        self.say(f"[{rank.number}] has the state of step {event['step']}, and catches up", event["t"])

    def on_entered(self, rank, event):
        rank.entered = True
        rank.rank, rank.epoch, rank.size = event["rank"], event["epoch"], event["size"]
        rank.step = rank.first_step = event["step"]
        self.views.setdefault(rank.epoch, (event["t"], rank.size))
        self.say(f"[{rank.number}] enters as rank {rank.rank} of {rank.size} after step {rank.step}, "
                 f"{(event['t'] - self.failed_at()) * 1000:.0f} ms after {self.FAILURE}", event["t"])

    def on_stopped(self, rank, event):
        self.say(f"rank {rank.number} stops: {event['why']}", event["t"])

    def on_step(self, rank, event):
        rank.step = event["step"]
        rank.steps.append(event["step"])
        if rank.rank == 0:
            self.loss = event["loss"]

    def on_end(self, rank, event):
        rank.end = event

    # What it comes to -----------------------------------------------------------------------------------------------

    def survivors(self):
        return [rank for rank in self.ranks if rank.entered and not rank.dead]

    def steps_missing(self):
        survivors = self.survivors()
        missing = max((len(set(range(rank.first_step + 1, self.steps + 1)) - set(rank.steps)) for rank in survivors),
                      default=self.steps)
        # A step done twice or out of order is as bad as one left out.
        return missing + sum(rank.steps != sorted(set(rank.steps)) for rank in survivors)

    def world_sizes(self):
        # Ranks that leave after the training change the view too; that is no part of it.
        finished = min((rank.end["t"] for rank in self.survivors() if rank.end), default=float("inf"))
        return [size for _, (at, size) in sorted(self.views.items()) if at < finished]

    def outcome(self):
        """The part of the result that is about all who are left."""
        survivors = self.survivors()
        founders = [rank for rank in survivors if rank.founder]
        ends = [rank.end for rank in survivors]
        complete = bool(ends) and all(ends)
        return {
            "hashes_equal": complete and len({end["hash"] for end in ends}) == 1 and ends[0]["hashes_equal"],
            "survivor_pids_unchanged": complete and all(rank.pid == rank.end["pid"] for rank in founders),
            "accuracy": min(end["accuracy"] for end in ends) if complete else 0.0,
        }

    def rows(self, result):
        """Those of the table that are about all who are left."""
        survivors = self.survivors()
        pids = ", ".join(f"rank {rank.number}: {rank.pid}" for rank in survivors if rank.founder)
        same = "as at the start" if result["survivor_pids_unchanged"] else "NOT as at the start"
        joined = ", ".join(f"[{rank.number}]: {rank.pid}, from step {rank.first_step + 1}"
                           for rank in survivors if not rank.founder)
        hashes = ", ".join(sorted({rank.end["hash"] for rank in survivors if rank.end}))
        equal = "equal on all ranks" if result["hashes_equal"] else "NOT equal on all ranks"
        return [("processes of the survivors", f"{pids}, {same}"), ("replacements", joined or "none"),
                ("hash of the parameters", f"{hashes}, {equal}")]

    def finish(self, failures):
        """Says what does not hold. Returns the exit status."""
        for text in failures:
            print(f"FAILED: {text}", file=sys.stderr)
        if failures:
            sys.stderr.write(self.log.read_text(errors="replace")[-4000:])
        return 1 if failures else 0
