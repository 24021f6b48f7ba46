"""Four ranks, two of which kill themselves where the others call, and what the others then see."""

import os
import signal
import sys
import threading

import torch

import hora
import hora.torch as hvd
from checks import check, expect, raised, run_all


def die_if_last(size):
    """The last of `size` ranks does. What it was given before does not die with it."""
    if hvd.rank() == size - 1:
        hvd.communicator().flush()
        os.kill(os.getpid(), signal.SIGKILL)


@check
def a_call_that_cannot_be_saved_says_so_and_the_next_works():
    comm, changes = hvd.communicator(), []
    comm.on_view_change(lambda before, after: changes.append((before.size, after.size, threading.get_ident())))
    own, target = bytearray([comm.rank]), bytearray(4)
    die_if_last(4)
    text = raised(hora.PeerFailedError, comm.allgather, own, target)
    expect("allgather" in text, text)
    expect(changes == [(4, 3, threading.get_ident())], changes)
    expect((comm.size, comm.epoch, comm.view.size) == (3, 2, 3))
    target = bytearray(3)
    expect(comm.allgather(own, target).contributors == 3 and list(target) == [0, 1, 2])


@check
def a_gathering_begins_again_without_the_dead():
    rows = torch.full((hvd.rank() + 1, 2), hvd.rank())
    die_if_last(3)
    expect(hvd.allgather(rows)[:, 0].tolist() == [0, 1, 1])


@check
def an_average_is_over_those_that_are_left():
    expect(hvd.allreduce(torch.tensor([1.0 + hvd.rank()])).item() == 1.5)
    expect((hvd.size(), hvd.local_size(), hvd.local_rank()) == (2, 4, hvd.rank()))


def main():
    hvd.init()
    return run_all(hvd.size())


if __name__ == "__main__":
    sys.exit(main())
