"""How the ranks of a process group of torch.distributed become a job of hora: through the store that they have met at.

Nothing is asked of that store afterwards. Like all that it holds, the secret of the job is known to who can reach it.
"""

import json
import os
import pathlib
import socket
import uuid

import torch

import hora
from hora.torch import world

TOLD_BYTES = 4096  # of JSON, to other ranks
ANYWHERE = "192.0.2.1"  # of no host (RFC 5737), so the way to it is the one to other networks


def meet(store, rank, size, timeout):
    """The communicator of a group, and what hosts its store (rank 0; otherwise None), to be kept as long."""
    milliseconds = milliseconds_of(timeout)
    # The least size that `hora run` is told is of its own job.
    limits = {"start_timeout_ms": milliseconds, "operation_timeout_ms": milliseconds, "min_size": 1}
    if size == 1:
        return hora.Communicator.init(rank=0, size=1, **limits), None
    # A store may outlive a group, and serve the next one of its name.
    turn = f"hora/{store.add(f'hora/turns/{rank}', 1)}"
    store.set(f"{turn}/place/{rank}", json.dumps(_place()))
    hosted = None
    if rank == 0:
        try:
            places = [json.loads(store.get(f"{turn}/place/{other}")) for other in range(size)]
            hosted = hora.Rendezvous.host(f"c10d-{uuid.uuid4().hex}", _address_for(places))
            told = {"store": hosted.address, "job": hosted.job, "secret": hosted.secret}
        except Exception as error:
            told = _told_of(error)
        store.set(f"{turn}/meeting", json.dumps(told))
    access = _checked(json.loads(store.get(f"{turn}/meeting")))
    return hora.Communicator.init(rank=rank, size=size, **access, **limits), hosted


def milliseconds_of(timeout):
    """Of a timeout of torch.distributed, as an option of hora; more than 30 days are as good as for ever."""
    return max(1, int(min(timeout.total_seconds(), 30 * 86400) * 1000))


def _place():
    """Of this process: what it shares Unix sockets with, and its address, as where ranks meet sees it; where that is
    not told, as other networks do.
    """
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    store, _, port = os.environ.get("HORA_STORE", "").removeprefix("tcp:").rpartition(":")
    known = [os.environ.get("MASTER_ADDR"), store.strip("[]") if port.isdigit() else "", ANYWHERE]
    return {"machine": f"{boot} {os.readlink('/proc/self/ns/net')}",
            "address": next(filter(None, map(_own_address, filter(None, known))), "")}


def _address_for(places):
    """Where rank 0 listens. Empty: only for ranks of this machine."""
    strangers = [place for place in places if place["machine"] != places[0]["machine"]]
    if not strangers:
        return ""
    address = _own_address(strangers[0]["address"])
    if not address:
        raise hora.ResourceError("the ranks of the group are on several hosts, and no address of this one is known to "
                                 "them: set MASTER_ADDR to a name or an address of rank 0's host")
    return address


def _own_address(host):
    """Of this machine, on the way to `host`; empty when that is nowhere."""
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(target)  # of a datagram socket: sends nothing
            return probe.getsockname()[0]
    except OSError:
        return ""


def meet_as_launched(timeout, **_):
    """A rendezvous of torch.distributed for launchers that it does not know, through the job of hora.torch."""
    refuse_newcomer()
    world.init()
    rank, size = world.rank(), world.size()
    own, all_places = _written(_place()), bytearray(TOLD_BYTES * size)
    _call(lambda job: job.allgather(own, all_places))
    store, told = None, bytearray(TOLD_BYTES)
    if rank == 0:
        try:
            places = [_read(all_places[i * TOLD_BYTES:(i + 1) * TOLD_BYTES]) for i in range(size)]
            address = _address_for(places) or "127.0.0.1"
            store = torch.distributed.TCPStore(address, 0, size, True, timeout, wait_for_workers=False)
            told = _written({"address": address, "port": store.port})
        except Exception as error:
            told = _written(_told_of(error))
    _call(lambda job: job.broadcast(told, 0))
    meeting = _checked(_read(told))
    if store is None:
        store = torch.distributed.TCPStore(meeting["address"], meeting["port"], size, False, timeout)
    yield store, rank, size


def _told_of(error):
    """What rank 0 tells in place of where to meet: the error is that of all ranks, as the others wait for this one."""
    return {"error": str(error)[:TOLD_BYTES // 10]}


def _checked(meeting):
    if "error" in meeting:
        raise hora.ResourceError(f"rank 0 can host no store for its group: {meeting['error']}")
    return meeting


def refuse_newcomer():
    if os.environ.get("HORA_JOIN") == "1":
        raise hora.UnsupportedError("a process group of torch.distributed takes no newcomers, such as this replacement "
                                    "of a rank: use hora.torch's own functions (DistributedOptimizer), or no "
                                    "--max-restarts")


def _call(function):
    world.ordered().submit(lambda: function(world.communicator()), None, at_once=True).wait()


def _written(content):
    return bytearray(json.dumps(content).encode().ljust(TOLD_BYTES))


def _read(text):
    return json.loads(bytes(text))
