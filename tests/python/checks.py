"""For programs of checks (ranks.py): runs the functions that are marked with @check, in their order, on every rank."""

import traceback

_checks = []


class Skipped(Exception):
    """Raised on all ranks alike."""


def check(function):
    _checks.append(function)
    return function


def expect(condition, text=""):
    if not condition:
        raise AssertionError(text or "does not hold")


def raised(kinds, function, *arguments, **options):
    """The text of the exception that the call raises, which must be of `kinds`."""
    try:
        function(*arguments, **options)
    except kinds as error:
        return str(error)
    raise AssertionError(f"{function} raised nothing")


def run_all(rank, *arguments):
    """Ends at the first that fails: ranks may not be in step any more. 0, or the exit status."""
    for function in _checks:
        word = "ok"
        try:
            function(*arguments)
        except Skipped:
            word = "skipped"
        except BaseException:
            print(f"rank {rank}: failed {function.__name__}\n{traceback.format_exc()}", flush=True)
            return 1
        print(f"rank {rank}: {word} {function.__name__}", flush=True)
    return 0
