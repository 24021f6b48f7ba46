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

PLACE_BYTES = 300  # of a host's name and a port


def meet(store, rank, size, timeout):
    """The communicator of a group, and what hosts its store (rank 0; otherwise None), to be kept as long."""
    milliseconds = max(1, int(timeout.total_seconds() * 1000))
    # The least size that `hora run` is told is of its own job.
    limits = {"start_timeout_ms": milliseconds, "operation_timeout_ms": milliseconds, "min_size": 1}
    if size == 1:
        return hora.Communicator.init(rank=0, size=1, **limits), None
    # A store may outlive a group, and serve the next one of its name.
    turn = f"hora/{store.add(f'hora/turns/{rank}', 1)}"
    store.set(f"{turn}/place/{rank}", json.dumps(_place()))
    hosted = None
    if rank == 0:
        places = [json.loads(store.get(f"{turn}/place/{other}")) for other in range(size)]
        hosted = hora.Rendezvous.host(f"c10d-{uuid.uuid4().hex}", _address_for(places))
        store.set(f"{turn}/meeting", json.dumps({"store": hosted.address, "job": hosted.job, "secret": hosted.secret}))
    access = json.loads(store.get(f"{turn}/meeting"))
    return hora.Communicator.init(rank=rank, size=size, **access, **limits), hosted


def _place():
    """Of this process: what it shares Unix sockets with, and its address, as the host of torch's store sees it."""
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return {"machine": f"{boot} {os.readlink('/proc/self/ns/net')}",
            "address": _own_address(os.environ.get("MASTER_ADDR", ""))}


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
    world.init()
    view, size = world.communicator().view, world.size()
    place = bytearray(PLACE_BYTES)
    store = None
    if world.rank() == 0:
        address = "127.0.0.1"
        if len(set(view.hosts)) > 1:  # HORA_STORE is set then: it is where rank 0 listens
            address = os.environ["HORA_STORE"].removeprefix("tcp:").rpartition(":")[0].strip("[]")
        store = torch.distributed.TCPStore(address, 0, size, True, timeout, wait_for_workers=False)
        text = f"{address} {store.port}".encode()
        place[:len(text)] = text
    world.ordered().submit(lambda: world.communicator().broadcast(place, 0), None, at_once=True).wait()
    if store is None:
        address, port = place.rstrip(b"\0").decode().split()
        store = torch.distributed.TCPStore(address, int(port), size, False, timeout)
    yield store, world.rank(), size
