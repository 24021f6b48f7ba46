"""hora: allreduce, broadcast, allgather and barrier among the processes of a job, that keep going when ranks die.

    import hora, numpy
    comm = hora.Communicator.init()                      # started by `hora run -np 4 python program.py`
    gradient = numpy.ones(1 << 20, numpy.float32)
    comm.allreduce(gradient, op=hora.ReduceOp.AVERAGE)   # in place
    comm.shutdown()

For PyTorch see hora.torch. Importing hora imports neither NumPy nor PyTorch.
"""

from hora._core import (
    Communicator,
    FencedError,
    Handle,
    HoraError,
    InternalError,
    InvalidArgumentError,
    MismatchError,
    Outcome,
    PeerFailedError,
    ReduceOp,
    Rendezvous,
    ResourceError,
    ShutDownError,
    TimedOutError,
    TryAgainError,
    UnsupportedError,
    View,
    __version__,
)

__all__ = [
    "Communicator",
    "FencedError",
    "Handle",
    "HoraError",
    "InternalError",
    "InvalidArgumentError",
    "MismatchError",
    "Outcome",
    "PeerFailedError",
    "ReduceOp",
    "Rendezvous",
    "ResourceError",
    "ShutDownError",
    "TimedOutError",
    "TryAgainError",
    "UnsupportedError",
    "View",
    "__version__",
]
