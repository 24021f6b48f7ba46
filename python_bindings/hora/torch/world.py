"""The job that this process is in: one for each process, as in Horovod."""

import atexit

import hora
from hora.torch.ordered import OrderedCalls

_job: OrderedCalls | None = None
_begun = False  # this process has been in a job
_submitted: dict[str, int] = {}  # kind: unnamed operations since the last step()

UNNAMED = 1 << 14  # names for unnamed operations of a kind: as many can be in flight at once


def init(**options) -> None:
    """Joins the job that the launcher describes; without one, a job of one. `options`: see Communicator.init()."""
    if _job is None:
        adopt(hora.Communicator.init(**options))


def adopt(communicator: hora.Communicator) -> None:
    """Makes a job that has been joined already the one of this process."""
    global _job, _begun
    _job, _begun = OrderedCalls(communicator), True
    atexit.register(shutdown)


def shutdown() -> None:
    """Leaves the job in order; the others go on. Runs by itself at the end of the process."""
    global _job
    if _job is None:
        return
    leaving, _job = _job, None
    atexit.unregister(shutdown)
    _submitted.clear()
    leaving.shutdown()


def is_initialized() -> bool:
    return _job is not None


def has_begun() -> bool:
    """Whether it is or was; also after shutdown()."""
    return _begun


def ordered() -> OrderedCalls:
    """Through which all ordered calls on communicator() go."""
    if _job is None:
        raise ValueError("hora has not been initialized; call hvd.init() first")
    return _job


def communicator() -> hora.Communicator:
    """The communicator below, for what Horovod has no name for."""
    return ordered().communicator


def rank() -> int:
    return communicator().rank


def size() -> int:
    return communicator().size


def member_at(root_rank: int) -> int:
    """Who has that rank now. Ranks change when one dies, between two parts of one call as well."""
    members = communicator().view.members
    if not 0 <= root_rank < len(members):
        raise hora.InvalidArgumentError(f"root {root_rank} is not a rank of {len(members)}")
    return members[root_rank]


def rank_of(member: int) -> int:
    members = communicator().view.members
    if member not in members:
        raise hora.PeerFailedError(f"the root, member {member:x}, has died")
    return members.index(member)


def local_rank() -> int:
    """Among the ranks that were started on this host, for the choice of a device: it does not change."""
    return communicator().local_rank


def local_size() -> int:
    return communicator().local_size


def cross_rank() -> int:
    """Position of this rank's host among the hosts."""
    hosts = communicator().view.hosts
    return list(dict.fromkeys(hosts)).index(hosts[rank()])


def cross_size() -> int:
    return len(set(communicator().view.hosts))


def observing() -> bool:
    """This process is a newcomer that catches up: what it contributes is ignored, so it may skip computing it."""
    return communicator().observing


def step() -> None:
    """The end of a step of the training loop, on every rank: newcomers enter here, and rank() and size() may change.

    Only jobs that take newcomers need it (`hora run --max-restarts`), with all state registered before the first one.
    """
    communicator().step()
    _submitted.clear()


def flush() -> None:
    """Returns when no failure can undo any more what this rank has been given. Before it writes a checkpoint."""
    communicator().flush()


def barrier() -> None:
    """Returns when every rank has called it."""
    ordered().submit(communicator().barrier, None, at_once=True).wait()


def take_index(kind: str) -> int:
    """Of an unnamed operation: its place in the order of submission, which is all that ranks have in common."""
    index = _submitted.get(kind, 0)
    _submitted[kind] = (index + 1) % UNNAMED  # names recur: the engine forgets none
    return index
