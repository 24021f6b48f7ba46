"""Seven ranks, five of which are killed where the others call, and what the others then see."""

import gc
import os
import signal
import sys
import threading
import weakref

import numpy
import torch

import hora
import hora.torch as hvd
from checks import check, expect, interrupted, raised, run_all
from hora.torch import operations, parameters


class Process:
    founding: int  # its first rank


def die():
    """What this rank was given before does not die with it."""
    hvd.communicator().flush()
    os.kill(os.getpid(), signal.SIGKILL)


@check
def a_callback_that_raises_loses_neither_memory_nor_other_changes():
    """Rank 0 leaves a call in which one dies, and is told of it by the next one, in which another one dies."""
    comm, data = hvd.communicator(), numpy.ones(1000, numpy.float32)
    pids = hvd.allgather_object(os.getpid())
    comm.flush()
    if Process.founding == 6:
        signal.pause()
    if Process.founding == 0:
        def refuse(before, after):
            raise ZeroDivisionError(after.size)

        comm.on_view_change(refuse)
        expect(interrupted(lambda: comm.barrier()))
        os.kill(pids[6], signal.SIGKILL)
    else:
        comm.barrier()
    over = comm.allreduce_async("the first is over", numpy.ones(1, numpy.float32))
    if Process.founding == 5:
        over.wait()
        signal.pause()
    if Process.founding == 0:
        while not over.done():  # wait() would tell of the change
            pass
        os.kill(pids[5], signal.SIGKILL)
        expect(raised(ZeroDivisionError, comm.barrier) == "6")
        watched = weakref.ref(data)
        expect(raised(ZeroDivisionError, comm.allreduce_async, "kept", data) == "5")
        comm.on_view_change(None)
        del data
        gc.collect()
        expect(watched() is not None)
        comm.barrier()
    else:
        comm.barrier()
        comm.barrier()
        comm.allreduce_async("kept", data).wait()
    over.wait()
    for name in ("after", "last"):  # a named operation lets go of the memory of those that have ended
        comm.allreduce_async(name, numpy.ones(1, numpy.float32)).wait()
        comm.barrier()
    expect(Process.founding != 0 or watched() is None)


@check
def a_call_that_cannot_be_saved_says_so_and_the_next_works():
    comm, changes = hvd.communicator(), []
    comm.on_view_change(lambda before, after: changes.append((before.size, after.size, threading.get_ident())))
    own, target, founding = bytearray([comm.rank]), bytearray(5), comm.view
    if Process.founding == 4:
        die()
    text = raised(hora.PeerFailedError, comm.allgather, own, target)
    expect("allgather" in text, text)
    expect(changes == [(5, 4, threading.get_ident())], changes)
    expect((comm.size, comm.epoch, comm.view.size) == (4, 4, 4))
    expect("from 5 to 4" in raised(hora.PeerFailedError, comm.allgather, own, target, founding))
    expect("root" in raised(hora.PeerFailedError, comm.broadcast, own, 4, founding))
    raised(ValueError, comm.allgather, own, target)
    target = bytearray(4)
    expect(comm.allgather(own, target).contributors == 4 and list(target) == [0, 1, 2, 3])
    comm.on_view_change(None)


@check
def a_gathering_begins_again_without_the_dead():
    """Which dies when all have been told what it would give."""
    thing = "x" * 100 * (hvd.rank() + 1)
    if Process.founding == 3:
        operations.Gathering._ask_for_data = lambda self: die()
    expect(hvd.allgather_object(thing) == ["x" * 100 * (rank + 1) for rank in range(3)])
    expect(hvd.allgather(torch.full((hvd.rank() + 1, 2), hvd.rank()))[:, 0].tolist() == [0, 1, 1, 2, 2, 2])


@check
def an_average_is_over_those_that_are_left():
    expect(hvd.allreduce(torch.tensor([1.0 + hvd.rank()])).item() == 2)
    expect((hvd.size(), hvd.local_size(), hvd.local_rank()) == (3, 7, Process.founding))


@check
def a_root_is_who_it_was_when_ranks_are_counted_anew():
    """Rank 0 dies when the size of the object has been told; the root has its rank then."""
    if Process.founding == 0:
        parameters.broadcast_ = lambda *_: die()
    told = hvd.broadcast_object({"rank": hvd.rank()}, root_rank=1)
    expect(told == {"rank": 1} and hvd.size() == 2, told)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.5 + hvd.rank())
    hvd.broadcast_optimizer_state(optimizer, root_rank=1)
    expect(optimizer.param_groups[0]["lr"] == 1.5)


def main():
    hvd.init()
    Process.founding = hvd.rank()
    return run_all(hvd.size())


if __name__ == "__main__":
    sys.exit(main())
