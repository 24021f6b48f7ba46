"""Checks of hora.torch's collectives on every rank of a job, most of them against what gloo gives."""

import random
import sys
import threading

import torch
import torch.distributed as gloo

import hora.torch as hvd
from beside_gloo import OPERATIONS, TYPES, by_gloo, close, gathered_by_gloo, main, own
from checks import check, expect, raised
from hora.torch import world


@check
def knows_its_place():
    expect((hvd.rank(), hvd.size()) == (gloo.get_rank(), gloo.get_world_size()))
    expect((hvd.local_rank(), hvd.local_size()) == (hvd.rank(), hvd.size()))
    expect((hvd.cross_rank(), hvd.cross_size()) == (0, 1) and hvd.is_initialized())


@check
def reduces_as_gloo_does():
    for dtype in TYPES:
        for op in OPERATIONS:
            for shape in ((), (3,), (5, 7), (0,), (100_000,)):
                tensor = own(shape, dtype)
                before = tensor.clone()
                expected = by_gloo(tensor, op)
                expect(close(hvd.allreduce(tensor, op=op), expected), f"{dtype} {op} {shape}")
                expect(torch.equal(tensor, before))
                expect(close(hvd.synchronize(hvd.allreduce_async(tensor, op=op, name="a")), expected))
                result = hvd.allreduce_(tensor, op=op)
                expect(result is tensor and close(tensor, expected))


@check
def averages():
    tensor = own((4, 3))
    expected = by_gloo(tensor, hvd.Sum) / hvd.size()
    expect(close(hvd.allreduce(tensor), expected))
    expect(close(hvd.allreduce(tensor, average=True), expected))
    expect(close(hvd.allreduce(tensor, average=False), expected * hvd.size()))
    whole = own((9,), torch.int64)
    expect(torch.equal(hvd.allreduce(whole), by_gloo(whole, hvd.Sum).div(hvd.size(), rounding_mode="floor")))
    raised(ValueError, hvd.allreduce, tensor, average=True, op=hvd.Sum)


@check
def scales_before_and_after():
    tensor = own((40,))
    expected = by_gloo(tensor * 0.5, hvd.Sum) * 3
    expect(close(hvd.allreduce(tensor, op=hvd.Sum, prescale_factor=0.5, postscale_factor=3.0), expected))
    expect(close(hvd.allreduce_(tensor, op=hvd.Sum, prescale_factor=0.5, postscale_factor=3.0), expected))


@check
def compresses():
    tensor = own((1000,))
    expected = by_gloo(tensor, hvd.Sum) / hvd.size()
    for compression, tolerance in ((hvd.Compression.none, 1e-5), (hvd.Compression.fp16, 1e-2),
                                   (hvd.Compression.bf16, 5e-2)):
        expect(close(hvd.allreduce(tensor, compression=compression), expected, tolerance), compression)
    expect(hvd.allreduce(torch.arange(3), op=hvd.Sum, compression=hvd.Compression.fp16).dtype == torch.int64)


@check
def reduces_half_types():
    for dtype in (torch.float16, torch.bfloat16):
        tensor = own((500,), dtype)
        expected = by_gloo(tensor.float(), hvd.Sum).to(dtype)
        expect(close(hvd.allreduce(tensor, op=hvd.Sum), expected, 1e-2), dtype)


@check
def reduces_groups():
    tensors = [own((i + 1,), seed=i) for i in range(5)]
    expected = [by_gloo(tensor, hvd.Sum) for tensor in tensors]
    results = hvd.grouped_allreduce(tensors, op=hvd.Sum, name="group")
    expect(all(close(*pair) for pair in zip(results, expected)))
    handle = hvd.grouped_allreduce_async(tensors, op=hvd.Sum)
    expect(all(close(*pair) for pair in zip(hvd.synchronize(handle), expected)) and hvd.poll(handle))
    results = hvd.grouped_allreduce_(tensors, op=hvd.Sum)
    expect(all(a is b and close(a, c) for a, b, c in zip(results, tensors, expected)))
    expect(hvd.grouped_allreduce([]) == [])


@check
def takes_tensors_that_are_not_contiguous():
    tensor = own((6, 4)).t()
    expected = by_gloo(tensor.contiguous(), hvd.Sum)
    expect(close(hvd.allreduce(tensor, op=hvd.Sum), expected))
    hvd.allreduce_(tensor, op=hvd.Sum)
    expect(close(tensor, expected) and not tensor.is_contiguous())
    column = own((5, 3))[:, 1]
    hvd.broadcast_(column, 0)
    expect(torch.equal(column, gathered_by_gloo(column)[0]))


@check
def broadcasts():
    for root in range(hvd.size()):
        for dtype in (*TYPES, torch.bool, torch.complex64):
            tensor = own((3, 2), torch.float32, root).to(dtype)
            expected = gathered_by_gloo(tensor)[root]
            before = tensor.clone()
            expect(torch.equal(hvd.broadcast(tensor, root), expected) and torch.equal(tensor, before))
            expect(hvd.broadcast_(tensor, root, name="b") is tensor and torch.equal(tensor, expected))
    expect("root" in raised(ValueError, hvd.broadcast, torch.ones(2), hvd.size()))


@check
def gathers_first_dimensions_that_differ():
    for rows in ([2] * hvd.size(), list(range(hvd.size())), [0] * hvd.size(), [5, 0, 1, 3][:hvd.size()]):
        tensor = own((rows[hvd.rank()], 3))
        expected = torch.cat(gathered_by_gloo(tensor))
        expect(torch.equal(hvd.allgather(tensor), expected), rows)
        expect(torch.equal(hvd.synchronize(hvd.allgather_async(tensor, name="g")), expected))
    expect(hvd.allgather(torch.tensor(hvd.rank())).tolist() == list(range(hvd.size())))
    truth = torch.tensor([True, False])
    expect(hvd.allgather(truth).tolist() == [True, False] * hvd.size())


@check
def gatherings_meet_in_any_order():
    tensors = [own((hvd.rank() + i, 2), seed=i) for i in range(6)]
    expected = [torch.cat(gathered_by_gloo(tensor)) for tensor in tensors]
    order = random.Random(hvd.rank())
    handles = {i: hvd.allgather_async(tensors[i], name=f"any {i}") for i in order.sample(range(6), 6)}
    late = hvd.allreduce_async(torch.ones(1), op=hvd.Sum, name="late") if hvd.rank() == 0 else None
    if late is not None:
        expect(hvd.synchronize(late).item() == hvd.size())
    for i in order.sample(range(6), 6):
        expect(torch.equal(hvd.synchronize(handles[i]), expected[i]))
    if late is None:
        # Rank 0 waits for this before any gathering, and must keep those going.
        hvd.allreduce(torch.ones(1), op=hvd.Sum, name="late")


@check
def gatherings_of_a_thread_meet_those_who_keep_them_going():
    total = 60
    mine = [own((hvd.rank() + i % 3, 2), seed=i) for i in range(total)]
    expected = [torch.cat(gathered_by_gloo(tensor)) for tensor in mine]
    given = []

    def gather():
        for tensor in mine:
            given.append(hvd.allgather(tensor, name="of a thread"))

    thread = threading.Thread(target=gather)
    thread.start()
    for i in range(3 * total):
        expect(hvd.allreduce(torch.ones(1), op=hvd.Sum, name="meanwhile").item() == hvd.size())
    thread.join(60)
    expect(len(given) == total and all(torch.equal(*pair) for pair in zip(given, expected)), len(given))


@check
def a_gathering_begins_again_when_the_view_changes_as_it_asks():
    """Another thread's call has told of a change between the look at the size and the submission."""
    now, seen = world.size, [hvd.size(), hvd.size() + 1]
    world.size = lambda: seen.pop() if seen else now()
    try:
        expect(hvd.allgather(torch.tensor([hvd.rank()])).tolist() == list(range(now())))
    finally:
        world.size = now


@check
def names_let_ranks_submit_in_any_order():
    order = random.Random(hvd.rank()).sample(range(20), 20)
    tensors = {i: own((i + 1,), seed=i) for i in order}
    handles = {i: hvd.allreduce_async(tensors[i], op=hvd.Sum, name=f"tensor {i}") for i in order}
    for i in range(20):
        expect(close(hvd.synchronize(handles[i]), by_gloo(tensors[i], hvd.Sum)))


@check
def unnamed_operations_are_matched_by_submission_alone():
    first = hvd.allreduce_async(own((3,)), op=hvd.Sum)
    if hvd.rank() == 0:  # has seen an end earlier than the others
        hvd.synchronize(first)
    second = hvd.allreduce_async(own((3,), seed=1), op=hvd.Sum)
    expect(close(hvd.synchronize(second), by_gloo(own((3,), seed=1), hvd.Sum)))
    expect(close(hvd.synchronize(first), by_gloo(own((3,)), hvd.Sum)))
    kept, world.UNNAMED = world.UNNAMED, 8
    for _ in range(20):  # the names recur
        expect(hvd.allreduce(torch.ones(1), op=hvd.Sum).item() == hvd.size())
    world.UNNAMED = kept


@check
def gradients_pass_through():
    weights = own((3, 3))
    for operation, expected in (
        (lambda x: hvd.allreduce(x, op=hvd.Sum), by_gloo(weights, hvd.Sum)),
        (lambda x: hvd.allreduce(x), by_gloo(weights, hvd.Sum) / hvd.size()),
        # As in Horovod, also for those that do not reduce: an average.
        (lambda x: hvd.broadcast(x, 1), by_gloo(weights, hvd.Sum) / hvd.size() * (hvd.rank() == 1)),
    ):
        x = torch.ones(3, 3, requires_grad=True)
        (operation(x) * weights).sum().backward()
        expect(close(x.grad, expected))
    x = torch.ones(hvd.rank() + 1, 2, requires_grad=True)
    rows = sum(range(1, hvd.size() + 1))
    weights = own((rows, 2))
    (hvd.allgather(x) * weights).sum().backward()
    first = sum(range(1, hvd.rank() + 1))
    expect(close(x.grad, by_gloo(weights, hvd.Sum)[first:first + hvd.rank() + 1] / hvd.size()))


@check
def passes_objects():
    thing = {"rank": hvd.rank(), "list": [1, 2, "x" * hvd.rank()]}
    expect(hvd.broadcast_object(thing, root_rank=1)["rank"] == 1)
    expect([one["rank"] for one in hvd.allgather_object(thing)] == list(range(hvd.size())))
    hvd.barrier()


@check
def memory_on_its_way_outlives_its_tensor():
    tensor = torch.ones(1 << 24)  # so large that it is unmapped when it is freed
    if hvd.rank() == 0:
        handle = hvd.communicator().allreduce_async("outlived", tensor, op=hvd.Sum)
        tensor.set_(torch.empty(0))
    gloo.barrier()
    if hvd.rank() != 0:
        handle = hvd.communicator().allreduce_async("outlived", tensor, op=hvd.Sum)
    expect(handle.wait().contributors == hvd.size())
    expect(hvd.rank() == 0 or tensor[-1] == hvd.size())


@check
def data_loaders_may_fork():
    data = torch.utils.data.TensorDataset(torch.arange(64).float())
    loader = torch.utils.data.DataLoader(data, batch_size=8, num_workers=2, multiprocessing_context="fork")
    for _ in range(2):
        pending = hvd.allreduce_async(torch.ones(10), op=hvd.Sum, name="while they fork")
        total = sum(hvd.allreduce(batch, op=hvd.Sum).sum().item() for (batch,) in loader)
        expect(total == hvd.size() * 63 * 32)
        expect(hvd.synchronize(pending)[0] == hvd.size())


class OwnRank(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.tensor([hvd.rank(), hvd.size(), hvd.local_rank()])


@check
def data_sets_may_ask_who_they_are_in_forked_workers():
    loader = torch.utils.data.DataLoader(OwnRank(), batch_size=4, num_workers=2, multiprocessing_context="fork")
    for batch in loader:
        expect(batch.tolist() == [[hvd.rank(), hvd.size(), hvd.local_rank()]] * 4)


@check
def refuses_what_it_cannot_take():
    expect("bool" in raised(TypeError, hvd.allreduce, torch.tensor([True]), op=hvd.Sum))
    expect(hvd.allreduce(torch.tensor([hvd.rank() == 0]), op=hvd.Max).tolist() == [True])
    sparse = torch.eye(3).to_sparse()
    raised((TypeError, RuntimeError, BufferError, NotImplementedError), hvd.allreduce, sparse)


if __name__ == "__main__":
    sys.exit(main())
