"""What the events of a training job come to: its steps, views, processes and interruptions over time."""

import json
import statistics
from dataclasses import dataclass, field

BINS = 120


@dataclass
class Process:
    """One process of the job, under the number that tags its output. Times are seconds since the job began."""

    number: int
    pid: int
    begin: float
    end: float
    founder: bool
    killed: bool = False
    finished: bool = False
    steps: dict = field(default_factory=dict)  # step: when it was done here


@dataclass
class Interruption:
    """A kill, or a newcomer, and what came of it."""

    kind: str  # "kill" or "join"
    at: float
    process: int
    role: str
    step: int
    size_before: int
    size_after: int
    first_results: dict  # process: milliseconds until it had its first result of the next view
    quiet_ms: float  # the longest time around it in which no step was done
    usual_ms: float  # the usual time between two steps

    @property
    def worst_ms(self):
        return max(self.first_results.values(), default=None)

    def title(self):
        if self.kind == "join":
            return f"Process {self.process} joins"
        return f"SIGKILL to process {self.process}, the {self.role}" if self.role else f"SIGKILL to {self.process}"


class Story:
    """The events of one job, in order."""

    def __init__(self, events):
        self.events = sorted(events, key=lambda event: event["t"])
        steps = [event for event in self.events if event["event"] == "step"]
        if not steps:
            raise ValueError("no step was done: there is nothing to report")
        # Preparations (loading data, meeting each other) would only shift everything to the right.
        self.zero = steps[0]["t"]
        self.length = steps[-1]["t"] - self.zero
        self.processes = self._processes()
        self.steps = self._steps(steps)  # (time, step, loss, size), each step once
        self.views = self._views()  # (time, epoch, size)
        self.interruptions = self._interruptions()

    def _of(self, *kinds):
        return [event for event in self.events if event["event"] in kinds]

    def _at(self, event):
        return event["t"] - self.zero

    def _processes(self):
        newcomers = {event["process"] for event in self._of("joining", "entered")}
        processes = {}
        for event in self.events:
            number = event["process"]
            if event["event"] == "start":
                processes[number] = Process(number, event["pid"], self._at(event), self._at(event),
                                            founder=number not in newcomers)
            process = processes.get(number)
            if process is None or process.killed:
                continue
            process.end = max(process.end, self._at(event))
            process.killed = event["event"] == "kill"
            process.finished |= event["event"] == "end"
            if event["event"] == "step":
                process.steps[event["step"]] = self._at(event)
        return processes

    def _steps(self, events):
        first = {}
        for event in events:
            first.setdefault(event["step"], (self._at(event), event["step"], event["loss"], event["size"]))
        return sorted(first.values())

    def _views(self):
        """The founding view and those that followed until the training ended: who leaves in order ends it."""
        ends = [self._at(event) for event in self._of("end")]
        last = min(ends, default=self.length)
        views = {}
        for event in self._of("start", "step", "view", "entered"):
            if "epoch" in event and self._at(event) <= last:
                views.setdefault(event["epoch"], (max(0.0, self._at(event)), event["epoch"], event["size"]))
        return sorted(views.values())

    def _interruptions(self):
        found = []
        for event in self._of("kill"):
            found.append(self._interruption("kill", event, event.get("role", ""), event["epoch"]))
        for process in self.processes.values():
            # Until it has entered, a newcomer sees the views of others.
            entry = next((event for event in self._of("entered") if event["process"] == process.number), None)
            if not process.founder and entry is not None:
                found.append(self._interruption("join", entry, "", entry["epoch"] - 1))
        return sorted(found, key=lambda interruption: interruption.at)

    def _interruption(self, kind, event, role, epoch):
        at = self._at(event)
        sizes = {view_epoch: size for _, view_epoch, size in self.views}
        before = max((one for one in sizes if one <= epoch), default=None)
        after = min((one for one in sizes if one > epoch), default=None)
        results = {}
        for result in self._of("result"):
            survivor = self.processes[result["process"]].begin <= at
            if kind == "kill" and survivor and result["epoch"] > epoch and self._at(result) >= at:
                results.setdefault(result["process"], (self._at(result) - at) * 1000)
        gaps = [(b[0] - a[0]) * 1000 for a, b in zip(self.steps, self.steps[1:]) if abs(a[0] - at) < 1.0]
        around = [(b[0] - a[0]) * 1000 for a, b in zip(self.steps, self.steps[1:]) if a[0] - 0.02 <= at <= b[0] + 0.02]
        step = event.get("step") or next((one[1] for one in self.steps if one[0] >= at), self.steps[-1][1])
        return Interruption(kind, at, event["process"], role, step, sizes.get(before, 0), sizes.get(after, 0), results,
                            max(around, default=0.0), statistics.median(gaps) if gaps else 0.0)

    def throughput(self, bins=BINS):
        """(begin, end, steps per second) of equal shares of the time."""
        width = self.length / bins
        counts = [0] * bins
        for at, *_ in self.steps:
            counts[min(int(at / width), bins - 1)] += 1
        return [(index * width, (index + 1) * width, count / width) for index, count in enumerate(counts)]

    def samples(self, rows=40):
        """(time, step, loss, size, steps per second): one row for each share of the time, as in the plots."""
        rates = self.throughput(rows)
        table = []
        for begin, end, rate in rates:
            within = [step for step in self.steps if begin <= step[0] < end] or [
                max((step for step in self.steps if step[0] <= end), default=self.steps[0])]
            at, step, loss, size = within[-1]
            table.append((at, step, loss, size, rate))
        return table


def read(path):
    """The Story in a file of JSON lines; a last line that was cut off is left out."""
    events = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                events.append(json.loads(line))
    return Story(events)
