"""For programs of checks (ranks.py): runs the functions that are marked with @check, in their order, on every rank."""

import os
import signal
import sys
import threading
import traceback

_checks = []  # with the least number of ranks of each


def check(function):
    _checks.append((function, 1))
    return function


def check_of_several(function):
    """Of two ranks or more."""
    _checks.append((function, 2))
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


def interrupted(function):
    """Calls it, sends this process SIGINT while the main thread is in it. True when that raised KeyboardInterrupt."""
    main = threading.get_ident()

    def interrupt():
        while sys._current_frames()[main].f_code is not function.__code__:
            pass
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        function()
        return False
    except KeyboardInterrupt:
        return True
    finally:
        thread.join()


def run_all(size, *arguments):
    """Ends at the first that fails: ranks may not be in step any more. 0, or the exit status."""
    for function, least in _checks:
        if size < least:
            continue
        try:
            function(*arguments)
        except BaseException:
            print(f"failed {function.__name__}\n{traceback.format_exc()}", flush=True)
            return 1
        print(f"ok {function.__name__}", flush=True)
    return 0
