"""Checks of the backend "hora" of torch.distributed on every rank of a job, most of them against a group of gloo."""

import _thread
import contextlib
import datetime
import json
import os
import signal
import sys
import threading
import time
import warnings

import torch
import torch.distributed as dist

import hora
from checks import check, expect, raised, run_all

TYPES = (torch.float32, torch.float64, torch.int32, torch.int64, torch.uint8, torch.int8)
OPERATIONS = (dist.ReduceOp.SUM, dist.ReduceOp.MIN, dist.ReduceOp.MAX, dist.ReduceOp.PRODUCT)
MINUTE = datetime.timedelta(seconds=60)


class Groups:
    gloo: dist.ProcessGroup


def rank():
    return dist.get_rank()


def size():
    return dist.get_world_size()


def own(shape, dtype=torch.float32, seed=0):
    """Other values on each rank, the same in each run."""
    generator = torch.Generator().manual_seed(100 * seed + rank())
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    return torch.randint(1, 4, shape, generator=generator).to(dtype)


def close(left, right, tolerance=1e-5):
    return left.dtype == right.dtype and torch.allclose(left.double(), right.double(), rtol=tolerance, atol=tolerance)


def both(function, *tensors):
    """What `function(group, *tensors)` makes of copies of the tensors, with gloo and with hora."""
    results = []
    for group in (Groups.gloo, None):
        copies = [tensor.clone() for tensor in tensors]
        returned = function(group, *copies)
        results.append(copies if returned is None else returned)
    return results


def agree(function, *tensors):
    expected, given = both(function, *tensors)
    return all(close(a, b) for a, b in zip(expected, given, strict=True))


@check
def is_found_without_an_import():
    expect(dist.get_backend() == "hora")
    expect(Groups.imported_before == [], Groups.imported_before)


@check
def reduces_as_gloo_does():
    for dtype in TYPES:
        for op in OPERATIONS:
            for shape in ((), (5, 7), (0,), (100_000,)):
                same = agree(lambda group, x: dist.all_reduce(x, op, group), own(shape, dtype))
                expect(same, f"{dtype} {op} {shape}")
    for dtype in (torch.float16, torch.bfloat16):
        tensor = own((500,), dtype)
        expected = tensor.float()
        dist.all_reduce(expected, group=Groups.gloo)
        dist.all_reduce(tensor)
        expect(close(tensor.float(), expected, 5e-2), dtype)


@check
def averages_and_scales():
    tensor, whole = own((40,)), own((40,))
    expected = tensor.clone()
    dist.all_reduce(expected, group=Groups.gloo)
    scaled = tensor.clone()
    dist.all_reduce(scaled, dist._make_nccl_premul_sum(0.5))
    expect(close(scaled, expected * 0.5))
    dist.all_reduce(tensor, dist.ReduceOp.AVG)
    expect(close(tensor, expected / size()))
    truth = torch.tensor([rank() == 0, True, False])
    dist.all_reduce(truth, dist.ReduceOp.BOR)
    expect(truth.tolist() == [True, True, False])
    raised(Exception, dist.all_reduce, whole.int(), dist.ReduceOp.BXOR)
    raised(Exception, dist.all_reduce, whole.int(), dist.ReduceOp.AVG)


@check
def takes_tensors_that_are_not_contiguous():
    tensor = own((6, 4)).t()
    expected = tensor.contiguous()
    dist.all_reduce(expected, group=Groups.gloo)
    dist.all_reduce(tensor)
    expect(close(tensor, expected) and not tensor.is_contiguous())
    parameter = torch.nn.Parameter(own((3,)))
    dist.broadcast(parameter, 0)
    expect(parameter.requires_grad)


@check
def broadcasts_from_every_rank():
    for root in range(size()):
        for dtype in TYPES:
            expect(agree(lambda group, x: dist.broadcast(x, root, group), own((3, 2), dtype, root)))
        for dtype in (torch.bool, torch.complex64):
            tensor = torch.full((4,), rank() == root, dtype=dtype)
            dist.broadcast(tensor, root)
            expect(tensor.tolist() == [True] * 4, dtype)


def gathered(group, tensor):
    parts = [torch.empty_like(tensor) for _ in range(size())]
    dist.all_gather(parts, tensor, group)
    whole = torch.empty(size() * tensor.shape[0], *tensor.shape[1:], dtype=tensor.dtype)
    dist.all_gather_into_tensor(whole, tensor, group)
    return [*parts, whole]


@check
def gathers_and_scatters():
    for dtype in TYPES:
        expect(agree(gathered, own((3, 2), dtype)), dtype)
    for root in range(size()):
        def gather(group, tensor):
            parts = [torch.empty_like(tensor) for _ in range(size())] if rank() == root else None
            dist.gather(tensor, parts, root, group)
            return parts or [tensor]

        def scatter(group, *parts):
            target = torch.empty(3)
            dist.scatter(target, list(parts) if rank() == root else None, root, group)
            return [target]

        def reduce(group, tensor):
            dist.reduce(tensor, root, group=group)
            return [tensor] if rank() == root else []

        expect(agree(gather, own((3, 2))) and agree(reduce, own((4,))))
        expect(agree(scatter, *(own((3,), seed=i) for i in range(size()))))
    kept = own((4,))
    before = kept.clone()
    dist.reduce(kept, 0)
    expect(rank() == 0 or torch.equal(kept, before))


@check
def gathers_several_at_once():
    tensors = [own((3, 2)), own((5,), seed=1), own((2, 2), seed=2)]

    def gather(group, *tensors):
        lists = [[torch.empty_like(tensor) for tensor in tensors] for _ in range(size())]
        dist.all_gather_coalesced(lists, list(tensors), group)
        return [part for parts in lists for part in parts]

    expect(agree(gather, *tensors))


@check
def refuses_lists_that_do_not_fit():
    tensor = torch.ones(3)
    for parts in ([torch.empty(3)] * (size() + 1), [torch.empty(3)] * (size() - 1), [torch.empty(4)] * size()):
        expect("all_gather" in raised(hora.InvalidArgumentError, dist.all_gather, parts, tensor))
        if rank() == 0:
            expect("gather" in raised(hora.InvalidArgumentError, dist.gather, tensor, parts))
            expect("scatter" in raised(hora.InvalidArgumentError, dist.scatter, tensor, parts))
    for parts in ([torch.empty(3), torch.empty(3)], [torch.empty(4)], []):
        text = raised(hora.InvalidArgumentError, dist.all_gather_coalesced, [parts] * size(), [tensor])
        expect("all_gather_coalesced" in text, text)
    dist.barrier()


@check
def gathers_from_within_the_target():
    whole = torch.zeros(3 * size())
    first = whole[:3]
    first.fill_(rank() + 1)
    dist.all_gather_into_tensor(whole, first)
    expect(whole.tolist() == [float(one + 1) for one in range(size()) for _ in range(3)], whole)


@check
def passes_objects():
    thing = {"rank": rank(), "text": "x" * (10 * rank() + 1)}
    everything = [None] * size()
    dist.all_gather_object(everything, thing)
    expect([one["rank"] for one in everything] == list(range(size())))
    told = [thing, rank()]
    dist.broadcast_object_list(told, size() - 1)
    expect(told[0]["rank"] == size() - 1 == told[1])
    taken = [None] * size() if rank() == 1 else None
    dist.gather_object(thing, taken, 1)
    expect(taken is None or [one["rank"] for one in taken] == list(range(size())))
    mine = [None]
    dist.scatter_object_list(mine, [{"for": i} for i in range(size())] if rank() == 0 else None, 0)
    expect(mine[0] == {"for": rank()})


@check
def asynchronous_operations_keep_their_order():
    tensors = [own((10 * i + 1,), seed=i) for i in range(20)]
    expected = [tensor.clone() for tensor in tensors]
    for tensor in expected:
        dist.all_reduce(tensor, group=Groups.gloo)
    works = [dist.all_reduce(tensor, async_op=True) for tensor in tensors]
    last = torch.ones(1)
    dist.all_reduce(last)  # behind all of them
    expect(last.item() == size())
    expect(all(work.wait(MINUTE) for work in works))
    expect(all(close(*pair) for pair in zip(tensors, expected)))
    with dist._coalescing_manager(None, async_ops=True) as together:
        for tensor in tensors[:5]:
            dist.all_reduce(tensor)
    together.wait()
    expect(all(close(tensor, expected[i] * size()) for i, tensor in enumerate(tensors[:5])))
    dist.barrier()
    dist.barrier(async_op=True).wait()


@check
def what_waits_for_a_future_may_communicate():
    def again(future):
        doubled = future.value()[0] * 2
        return dist.all_reduce(doubled, async_op=True).get_future().wait()[0]

    for i in range(10):  # one after the other: all ranks must submit in one order
        future = dist.all_reduce(torch.full((3,), float(i)), async_op=True).get_future().then(again)
        expect(torch.equal(future.wait(), torch.full((3,), 2.0 * i * size() * size())), i)


@check
def calls_may_come_from_where_there_is_no_python():
    backend = dist.group.WORLD._get_backend(torch.device("cpu"))
    tensor, works = torch.ones(3), []
    for call, options in ((backend.allreduce, dist.AllreduceOptions()), (backend.broadcast, dist.BroadcastOptions())):
        _thread.start_new_thread(works.extend, (map(call, [[tensor]], [options]),))
        deadline = time.monotonic() + MINUTE.total_seconds()
        while not works:
            expect(time.monotonic() < deadline, "the call raised")
        works.pop().wait()
    expect(tensor.tolist() == [size()] * 3)


@check
def an_operation_inside_of_another_is_refused():
    """By the handler of a signal, that comes while rank 0 waits for the others."""
    from hora.torch import world

    tensor, told, refused = torch.ones(3), torch.zeros(1), []
    communicator = world.communicator()
    if rank() == 0:
        def handle(*_):
            refused.append(raised(hora.InvalidArgumentError, dist.barrier))

        def interrupt():
            while world.ordered()._maker != main:
                pass
            os.kill(os.getpid(), signal.SIGUSR1)
            while not refused:
                pass
            communicator.allreduce_async("told of refusal", told).wait()

        before = signal.signal(signal.SIGUSR1, handle)
        main, thread = threading.get_ident(), threading.Thread(target=interrupt)
        thread.start()
        dist.all_reduce(tensor)
        thread.join()
        signal.signal(signal.SIGUSR1, before)
        expect("inside of another" in refused[0] and len(refused) == 1, refused)
    else:
        communicator.allreduce_async("told of refusal", told).wait()
        dist.all_reduce(tensor)
    expect(tensor.tolist() == [size()] * 3)


@check
def an_exit_in_a_call_ends_its_wait():
    from hora.torch import world

    work = world.ordered().submit(lambda: sys.exit("told so"), None)
    expect("told so" in raised(SystemExit, work.wait, MINUTE))
    expect("told so" in raised(hora.HoraError, work.get_future().wait))
    dist.all_reduce(torch.ones(1), async_op=True).wait(MINUTE)


@check
def a_failure_of_rank_0_to_meet_is_that_of_all():
    from hora.torch import meeting

    store = dist.HashStore()
    store.set_timeout(MINUTE)
    store.set("hora/1/place/1", json.dumps({"machine": "another", "address": ""}))
    for place in (0, 1):
        expect("rank 0" in raised(hora.ResourceError, meeting.meet, store, place, 2, MINUTE))


@check
def a_wait_has_a_timeout():
    tensor = torch.ones(3)
    if rank() == 0:
        work = dist.all_reduce(tensor, async_op=True)
        expect("goes on" in raised(Exception, work.wait, datetime.timedelta(milliseconds=10)))
        dist.barrier(group=Groups.gloo)
    else:
        dist.barrier(group=Groups.gloo)
        work = dist.all_reduce(tensor, async_op=True)
    work.wait()
    expect(tensor[0] == size())


@check
def subgroups_are_jobs_of_their_own():
    halves = [dist.new_group(list(range(half, size(), 2))) for half in (0, 1)]
    mine, turned = halves[rank() % 2], dist.new_group(list(reversed(range(size()))))
    alone = dist.new_group([0])
    tensor, everywhere = torch.tensor([float(rank())]), torch.ones(4)
    pending = dist.all_reduce(everywhere, async_op=True)
    dist.all_reduce(tensor, group=mine)
    pending.wait()
    expect(tensor.item() == sum(range(rank() % 2, size(), 2)) and everywhere[0] == size())
    dist.broadcast(tensor, src=1, group=turned)
    expect(tensor.item() == sum(range(1, size(), 2)))
    if rank() == 0:
        dist.all_reduce(tensor, group=alone)
    dist.destroy_process_group(turned)
    dist.barrier()


@check
def tells_of_disagreement_everywhere():
    text = raised(Exception, dist.all_reduce, torch.zeros(3 + rank()))
    expect("rank 1" in text, text)
    dist.barrier()


@check
def names_what_it_does_not_do():
    expect("send" in raised(RuntimeError, dist.send, torch.ones(1), (rank() + 1) % size()))
    expect("recv" in raised(RuntimeError, dist.recv, torch.ones(1), (rank() + 1) % size()))
    expect("reduce_scatter" in raised(RuntimeError, dist.reduce_scatter_tensor, torch.ones(1), torch.ones(size())))
    expect("all_to_all" in raised(RuntimeError, dist.all_to_all_single, torch.ones(size()), torch.ones(size())))


@check
def horovods_names_work_beside_it():
    import hora.torch as hvd

    expect((hvd.rank(), hvd.size()) == (rank(), size()))
    expect(torch.equal(hvd.allreduce(torch.ones(3), op=hvd.Sum), torch.full((3,), float(size()))))
    work = dist.all_reduce(torch.ones(3), async_op=True)
    hvd.barrier()
    expect(work.wait())


class Network(torch.nn.Module):
    """With statistics of batches in its buffers, and a part that not every step uses."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU())
        self.sometimes = torch.nn.Conv2d(4, 4, 1)
        self.last = torch.nn.Linear(4 * 36, 3)

    def forward(self, x, more=True):
        x = self.first(x)
        return self.last((self.sometimes(x) if more else x).flatten(1))


def train(group, hook=None, accumulate=False, bucket_cap_mb=0.001, **options):
    """Losses of some steps, and parameters and buffers after them."""
    torch.manual_seed(3 + rank())  # DistributedDataParallel brings all to the values of rank 0
    model = torch.nn.parallel.DistributedDataParallel(Network(), process_group=group, bucket_cap_mb=bucket_cap_mb,
                                                      **options)
    if hook is not None:
        model.register_comm_hook(*hook(group))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for step in range(8):
        x = own((6, 1, 8, 8), seed=step)
        more = not options.get("find_unused_parameters") or (step + rank()) % 3 != 0
        optimizer.zero_grad()
        if accumulate:
            with model.no_sync():
                model(x).square().mean().backward()
        loss = (model(x, more) - 1).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return [torch.stack(losses), *(value.detach() for value in model.module.state_dict().values())]


@check
def trains_as_with_gloo():
    for options in ({}, {"forward_sync_buffers": False}, {"gradient_as_bucket_view": True},
                    {"find_unused_parameters": True}, {"static_graph": True}, {"accumulate": True}):
        expected, given = train(Groups.gloo, **options), train(None, **options)
        expect(all(close(*pair, 1e-4) for pair in zip(expected, given, strict=True)), options)


@check
def trains_with_hooks():
    import hora.torch as hvd
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook

    expected = train(Groups.gloo)
    for group in (None, Groups.gloo):
        given = train(group, lambda _: (None, hvd.ddp_hook))
        expect(all(close(*pair, 1e-4) for pair in zip(expected, given, strict=True)))
    given = train(None, lambda group: (group, default_hooks.allreduce_hook))
    expect(all(close(*pair, 1e-4) for pair in zip(expected, given, strict=True)))
    given = train(None, lambda group: (group, default_hooks.fp16_compress_hook))
    expect(all(close(*pair, 5e-2) for pair in zip(expected, given, strict=True)))

    def power(group):
        state = powerSGD_hook.PowerSGDState(group, matrix_approximation_rank=1, start_powerSGD_iter=2,
                                            min_compression_rate=0.5)
        return state, powerSGD_hook.powerSGD_hook

    # In one bucket: its callbacks communicate, and those of several would do so in any order.
    expected, given = (train(group, power, bucket_cap_mb=25) for group in (Groups.gloo, None))
    expect(all(close(*pair, 1e-2) for pair in zip(expected, given, strict=True)))


@check
def the_process_group_can_be_made_again():
    """The last check: what was of the first group is gone after it."""
    dist.destroy_process_group()
    raised(ValueError, dist.get_rank)
    with contextlib.suppress(KeyError):
        del os.environ["TORCHELASTIC_USE_AGENT_STORE"]
    dist.init_process_group("hora", timeout=datetime.timedelta(days=1000))
    tensor = torch.ones(1)
    dist.all_reduce(tensor)
    expect(tensor.item() == size())


def main():
    warnings.simplefilter("ignore")
    Groups.imported_before = [name for name in sys.modules if name.startswith("hora.torch")]
    torch.set_num_threads(1)
    dist.init_process_group("hora", timeout=MINUTE)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    Groups.gloo = dist.new_group(backend="gloo", timeout=MINUTE)
    status = run_all(size())
    if status == 0:
        dist.destroy_process_group()
    return status


if __name__ == "__main__":
    sys.exit(main())
