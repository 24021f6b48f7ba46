"""The C++ side of hora.

An `_Array` is anything contiguous in memory of the host with the buffer protocol or DLPack: NumPy arrays, PyTorch tensors,
bytearrays, ... It is used in place, without a copy. A wrong one raises TypeError (not such a thing, another type than the
other array) or ValueError (not contiguous, read-only but to be written, another size).

Threads: every call works and waits without the GIL, and no thread of hora ever takes it. Named calls may come from any
thread, ordered calls from one thread at a time: a second one, of another thread or of a signal's handler, is refused.
Ctrl-C ends a wait of the main thread, in an ordered collective or in Handle.wait(); the operation goes on. A forked child
can ask its parent's communicator who it was, and do no more with it.
"""

import enum
from collections.abc import Callable
from typing import Any

_Array = Any  # with __dlpack__ or the buffer protocol

__version__: str

class ReduceOp(enum.Enum):
    """AVERAGE divides by the number of contributors, floating types only."""

    SUM = 0
    AVERAGE = 1
    MIN = 2
    MAX = 3
    PRODUCT = 4

class HoraError(RuntimeError):
    """What hora raises. Its subclasses say what can be done about it."""

class InvalidArgumentError(HoraError, ValueError): ...
class MismatchError(HoraError): ...
class PeerFailedError(HoraError): ...
class FencedError(HoraError): ...
class TimedOutError(HoraError, TimeoutError): ...
class TryAgainError(HoraError): ...
class UnsupportedError(HoraError): ...
class ResourceError(HoraError, OSError): ...
class ShutDownError(HoraError): ...
class InternalError(HoraError): ...

class Outcome:
    """How an operation ended: the view in which it did, and how many ranks' values are in it."""

    @property
    def epoch(self) -> int: ...
    @property
    def contributors(self) -> int: ...

class View:
    """Who is in the job. `members` and `hosts` are by rank; equal hosts share memory."""

    @property
    def epoch(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def members(self) -> tuple[int, ...]: ...
    @property
    def hosts(self) -> tuple[int, ...]: ...

class Handle:
    """A pending operation of the named front. It keeps the memory of its arrays alive, also when it is dropped."""

    def done(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> Outcome:
        """Raises what the operation failed with, or TimedOutError after `timeout` seconds: it then goes on unchanged."""

class Communicator:
    @staticmethod
    def init(**options: Any) -> Communicator:
        """Joins the job that the environment describes, as `hora run` sets it; without one, a job of one.

        `options` are the fields of hora::Options, and win over the environment: rank, size, job, store, secret,
        transport ("shm", "tcp", "mixed", "mpi"), silence_ms, ... Blocks until all founders have come.
        """

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def local_rank(self) -> int:
        """Among the ranks that were started on this host, for the choice of a device: it does not change."""

    @property
    def local_size(self) -> int: ...
    @property
    def epoch(self) -> int: ...
    @property
    def view(self) -> View: ...
    @property
    def observing(self) -> bool:
        """This process has not entered yet: its calls return what the members' did, and what it gives is ignored."""

    # Ordered: every rank makes the same calls in the same order.
    def allreduce(self, source: _Array, target: _Array | None = None, op: ReduceOp = ...) -> Outcome:
        """target = source of rank 0 `op` source of rank 1 ...; in place without a target."""

    # `seen`: the view of which root and size are, which may have passed; without it, the view of the moment.
    def broadcast(self, tensor: _Array, root: int, seen: View | None = None) -> Outcome:
        """PeerFailedError when the root has died before any other rank had it."""

    def allgather(self, source: _Array, target: _Array, seen: View | None = None) -> Outcome:
        """The sources of all ranks, one after the other. PeerFailedError when size changed since `seen`."""

    def barrier(self) -> Outcome: ...

    # Named: any order. A name stands for the same tensor on all ranks, and can be in flight once at a time.
    def allreduce_async(self, name: str, source: _Array, target: _Array | None = None, op: ReduceOp = ...) -> Handle: ...
    def broadcast_async(self, name: str, tensor: _Array, root: int) -> Handle: ...
    def allgather_async(self, name: str, source: _Array, target: _Array) -> Handle: ...

    # Elastic jobs.
    def register_state(self, name: str, array: _Array) -> None:
        """Memory that a newcomer gets from the others. All ranks register the same before their first step()."""

    def step(self) -> None:
        """A step boundary: no handle is pending. Newcomers enter here; rank and size may change."""

    def on_view_change(self, callback: Callable[[View, View], object] | None) -> None:
        """`callback(before, after)` runs on the thread of the call that returns in a new view. It makes no calls."""

    def flush(self) -> None:
        """Returns when no failure can undo any more what this rank has been given. Before a checkpoint."""

    def shutdown(self, timeout: float = 10.0) -> None:
        """Leaves the job in order. Without it the others see a death."""

class Rendezvous:
    """Hosts the store at which the ranks of a job meet, while it lives, for jobs that `hora run` does not start.

    Its address, job and secret go to all ranks, for Communicator.init(rank=, size=, store=, job=, secret=).
    """

    @staticmethod
    def host(job: str, host: str = "") -> Rendezvous:
        """`host`: the numeric address to listen at, for ranks of other hosts; empty: for those of this host alone."""

    @property
    def address(self) -> str: ...
    @property
    def job(self) -> str: ...
    @property
    def secret(self) -> str: ...
