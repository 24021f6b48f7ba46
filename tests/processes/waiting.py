"""How tests of `hora run`, and the shells that are its ranks, wait: for a condition, with a deadline."""

import pathlib
import re
import select
import time

# For shells. A line that begins with "end" in the file of notes; the end of the process in $NOTES.pid.
AWAIT_END = "timeout --foreground 60 tail -n +1 -f $NOTES | grep -qm1 ^end"
AWAIT_PROCESS = "timeout --foreground 60 tail --pid=$(cat $NOTES.pid) -s 0.05 -f /dev/null"
# Not a wait for anything: a rank that stays until it is signalled. A shell runs its trap between two commands only, so
# they must be short; the patience of the test bounds it.
STAY = "while :; do sleep 0.05; done"


def wait_until(condition, what, patience_s):
    """Polls `condition`; it has no other way to be heard of."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience_s} s: {what}")
        select.select([], [], [], 0.01)


def state(pid):
    """The letter of a process's state; "Z" also where there is none."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def alive(pid):
    return state(pid) != "Z"


def pending(pid, number):
    """Whether a signal that was sent to a process still waits for it."""
    found = re.search(r"^ShdPnd:\s*(\w+)$", pathlib.Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1], 16) >> (number - 1) & 1 == 1
