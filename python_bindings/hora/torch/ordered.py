"""The ordered calls of a communicator, made from threads of their own: who submits a call can go on computing.

All ordered calls of a process on one communicator go through one line, so ranks that submit them in the same order make
them in the same order, whichever threads they come from.
"""

import collections
import os
import threading

import torch
from torch.distributed import Work as _Work

from hora import HoraError, InvalidArgumentError, ShutDownError, TimedOutError


class Work(_Work):
    """A submitted call, as torch.distributed knows them."""

    def __init__(self, result):
        super().__init__()
        self._result = result
        self._error = None
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._future = None

    def is_completed(self):
        return self._ended.is_set()

    def is_success(self):
        return self._ended.is_set() and self._error is None

    def exception(self):
        return self._error

    def result(self):
        return self._result

    def wait(self, timeout=None):
        """`timeout`: a timedelta; None and 0: as long as the communicator waits. The call goes on after it."""
        seconds = timeout.total_seconds() if timeout else 0
        if not self._ended.wait(seconds if seconds > 0 else None):
            raise TimedOutError(f"the operation has not ended within {seconds} s; it goes on")
        if self._error is not None:
            raise self._error
        return True

    def get_future(self):
        with self._lock:
            if self._future is None:
                self._future = torch.futures.Future()
                if self._ended.is_set():
                    self._settle()
            return self._future

    def end(self, error=None):
        with self._lock:
            self._error = error
            self._ended.set()
            future = self._future
        if future is not None:
            self._settle()  # runs the callbacks of the future

    def _settle(self):
        if isinstance(self._error, Exception):
            self._future.set_exception(self._error)
        elif self._error is not None:  # SystemExit and the like, which a future does not take
            self._future.set_exception(HoraError(repr(self._error)))
        else:
            self._future.set_result(self._result)


class OrderedCalls:
    """Makes calls one after the other. While the thread that has ended one runs what waits for its future, which may
    submit and await a further call, another thread makes the next one.
    """

    def __init__(self, communicator):
        self.communicator = communicator
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._waiting = collections.deque()  # of (function, work)
        self._maker = None  # the thread that makes a call
        self._closed = False
        self._threads = []
        self._idle = 0  # of them

    def submit(self, function, result, at_once=False):
        """`function` makes the call, in place of which stands the Work. `at_once`: the caller waits for it anyway, and
        makes the call itself where none is before it.
        """
        work = Work(result)
        with self._changed:
            if self._closed:
                raise ShutDownError("this process group has been destroyed")
            if self._maker == threading.get_ident():
                raise InvalidArgumentError("an operation inside of another one, by the handler of a signal or by a "
                                           "callback: it would wait for itself; submit it afterwards")
            mine = at_once and self._maker is None and not self._waiting
            if mine:
                self._maker = threading.get_ident()
            else:
                self._waiting.append((function, work))
                if not self._threads:
                    self._start_thread()
                self._changed.notify()
        if mine:
            work.end(self._make(function))
        return work

    def shutdown(self):
        """Leaves the job in order. Calls that have not ended by then fail."""
        if os.getpid() != self._process:
            return  # a forked child has none of the threads, and perhaps a lock for ever
        with self._changed:
            self._closed = True
            dropped = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        try:
            self.communicator.shutdown()
        finally:
            for _, work in dropped:
                work.end(ShutDownError("the process group was destroyed before this operation began"))
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _start_thread(self):
        thread = threading.Thread(target=self._run, name="hora-ordered", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self):
        while True:
            with self._changed:
                self._idle += 1
                self._changed.wait_for(lambda: self._closed or (self._waiting and self._maker is None))
                self._idle -= 1
                if self._closed:
                    return
                self._maker = threading.get_ident()
                function, work = self._waiting.popleft()
            error = self._make(function)
            with self._changed:
                if self._idle == 0 and not self._closed:
                    self._start_thread()
            work.end(error)

    def _make(self, function):
        """The error of the call, or None: of any kind, as who waits for the call must learn of its end."""
        try:
            function()
            return None
        except BaseException as error:
            return error
        finally:
            with self._changed:
                self._maker = None
                self._changed.notify()
