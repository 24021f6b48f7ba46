"""Five ranks, three of which kill themselves where the others call, and what the others then see."""

import os
import signal
import sys
import threading

import torch

import hora
import hora.torch as hvd
from checks import check, expect, raised, run_all
from hora.torch import operations, parameters


class Process:
    founding: int  # its first rank


def die():
    """What this rank was given before does not die with it."""
    hvd.communicator().flush()
    os.kill(os.getpid(), signal.SIGKILL)


@check
def a_call_that_cannot_be_saved_says_so_and_the_next_works():
    comm, changes = hvd.communicator(), []
    comm.on_view_change(lambda before, after: changes.append((before.size, after.size, threading.get_ident())))
    own, target = bytearray([comm.rank]), bytearray(5)
    if Process.founding == 4:
        die()
    text = raised(hora.PeerFailedError, comm.allgather, own, target)
    expect("allgather" in text, text)
    expect(changes == [(5, 4, threading.get_ident())], changes)
    expect((comm.size, comm.epoch, comm.view.size) == (4, 2, 4))
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
    expect((hvd.size(), hvd.local_size(), hvd.local_rank()) == (3, 5, Process.founding))


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
