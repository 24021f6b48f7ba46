"""Starts ranks under `hora run` for the process tests, and waits for them with a deadline."""

import os
import pathlib
import selectors
import shutil
import signal
import struct
import subprocess
import tempfile
import time

RECORD = struct.Struct("<7Q")  # records.h
FIELDS = ("epoch", "contributors", "hash", "masks", "broken", "time_ns", "step")


class Job:
    """One `hora run`, in a process group of its own, with a pipe in which ranks announce themselves.

    `launcher` is the `hora` of another build, when the ranks are what is tested; `launch` takes the place of all of
    `hora run` and its options. A `min_np` of None leaves that to `hora run`.
    """

    def __init__(self, build, np, command, min_np=1, environment=None, run_options=(), prefix=(), launcher=None,
                 launch=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="hora-test-"))
        self.ready_path = self.folder / "ready"
        os.mkfifo(self.ready_path)
        self.ready_file = os.open(self.ready_path, os.O_RDWR | os.O_NONBLOCK)  # O_RDWR: never at its end
        os.mkfifo(self.folder / "gate")
        self.gate_file = os.open(self.folder / "gate", os.O_RDWR)
        self.output_path = self.folder / "output"
        self.np = np
        self.pids = {}  # founding rank: pid, of those that have announced themselves
        self.pidfds = {}  # the same, as descriptors: a signal never reaches a stranger with a pid used again
        self.said = {}  # word: founding ranks that have announced it
        self.rest = b""
        hora = str(launcher or build / "hora")
        least = () if min_np is None else ("--min-np", str(min_np))
        arguments = [*prefix, *(launch or (hora, "run", "-np", str(np), *least, *run_options))]
        arguments += [str(part).replace("{folder}", str(self.folder)) for part in command]
        with open(self.output_path, "wb") as output:
            self.process = subprocess.Popen(
                arguments, stdout=output, stderr=subprocess.STDOUT, process_group=0,
                env={**os.environ, **(environment or {})},
            )
        self.exit = os.pidfd_open(self.process.pid)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.ready_file, selectors.EVENT_READ)
        self.selector.register(self.exit, selectors.EVENT_READ)

    def _take(self):
        try:
            data = os.read(self.ready_file, 1 << 12)
        except BlockingIOError:
            return
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            word, rank, pid = line.decode().split()
            if int(rank) not in self.pids:
                self._meet(int(rank), int(pid))
            self.said.setdefault(word, set()).add(int(rank))

    def _meet(self, rank, pid):
        self.pids[rank] = pid
        try:
            self.pidfds[rank] = os.pidfd_open(pid)
        except ProcessLookupError:
            pass  # died since it announced itself

    def kill(self, rank, number=signal.SIGKILL):
        """Signals a founding rank that has announced itself. False when it had ended before."""
        if rank not in self.pidfds:
            return False
        try:
            signal.pidfd_send_signal(self.pidfds[rank], number)
        except ProcessLookupError:
            return False
        return True

    def wait_until(self, condition, seconds):
        """Waits for `condition()`, tried whenever something happens, or the end of the job. True when it holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0 or self.process.poll() is not None:
                return condition()
            for key, _ in self.selector.select(left):
                if key.fd == self.ready_file:
                    self._take()
        return True

    def wait_said(self, word, count, seconds):
        """Waits until `count` ranks have announced `word`. True when they have."""
        return self.wait_until(lambda: len(self.said.get(word, ())) >= count, seconds)

    def open_gate(self, count=1):
        """Lets `count` ranks go on that wait at the gate, now or later."""
        os.write(self.gate_file, b"." * count)

    def wait_end(self, seconds):
        """The exit status of `hora run`, or None when it did not end."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        self._take()
        return status

    def pass_time(self, seconds):
        """Lets the job run on, or end. This chooses the moment of a fault, never what a test finds."""
        self.wait_until(lambda: False, seconds)

    def output(self):
        return self.output_path.read_text(errors="replace")

    def records(self, rank):
        """The steps that a founding rank has recorded, as dicts."""
        path = self.folder / f"records.{rank}"
        result = []
        if not path.exists():
            return result
        for values in RECORD.iter_unpack(path.read_bytes()):
            record = dict(zip(FIELDS, values))
            if record["step"] == 0:
                break
            result.append(record)
        return result

    def alive(self):
        """Founding ranks whose process still runs."""
        result = []
        for rank, pid in self.pids.items():
            try:
                state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if state not in "ZX":
                result.append(rank)
        return result

    def stacks(self):
        """Where the living ranks are, for a report about a hang."""
        if not shutil.which("gdb"):
            return "(no gdb to tell where the ranks are)"
        texts = []
        for rank in self.alive():
            done = subprocess.run(["gdb", "-p", str(self.pids[rank]), "-batch", "-ex", "thread apply all bt 20"],
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=60)
            texts.append(f"--- founding rank {rank}\n{done.stdout}")
        return "\n".join(texts)

    def close(self):
        """Ends what still runs and removes the folder."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for rank in self.pids:
            self.kill(rank)
        self.selector.close()
        for file in (self.ready_file, self.gate_file, self.exit, *self.pidfds.values()):
            os.close(file)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
