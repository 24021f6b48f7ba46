"""Checks of hora.torch on every rank of a job, most of them against what gloo gives in the same processes."""

import os
import random
import sys
import tempfile
import threading

import torch
import torch.distributed as gloo

import hora.torch as hvd
from checks import check, expect, raised, run_all
from hora.torch import world

OPERATIONS = {hvd.Sum: gloo.ReduceOp.SUM, hvd.Min: gloo.ReduceOp.MIN, hvd.Max: gloo.ReduceOp.MAX,
              hvd.Product: gloo.ReduceOp.PRODUCT}
TYPES = (torch.float32, torch.float64, torch.int32, torch.int64, torch.uint8, torch.int8)


def own(shape, dtype=torch.float32, seed=0):
    """Other values on each rank, the same in each run."""
    generator = torch.Generator().manual_seed(100 * seed + hvd.rank())
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    return torch.randint(1, 4, shape, generator=generator).to(dtype)


def by_gloo(tensor, op):
    result = tensor.clone()
    gloo.all_reduce(result, OPERATIONS[op])
    return result


def gathered_by_gloo(tensor):
    parts = [None] * hvd.size()
    gloo.all_gather_object(parts, tensor)
    return parts


def close(left, right, tolerance=1e-5):
    return left.dtype == right.dtype and torch.allclose(left.double(), right.double(), rtol=tolerance, atol=tolerance)


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
        (lambda x: hvd.broadcast(x, 1), by_gloo(weights, hvd.Sum) * (hvd.rank() == 1)),
    ):
        x = torch.ones(3, 3, requires_grad=True)
        (operation(x) * weights).sum().backward()
        expect(close(x.grad, expected))
    x = torch.ones(hvd.rank() + 1, 2, requires_grad=True)
    rows = sum(range(1, hvd.size() + 1))
    weights = own((rows, 2))
    (hvd.allgather(x) * weights).sum().backward()
    first = sum(range(1, hvd.rank() + 1))
    expect(close(x.grad, by_gloo(weights, hvd.Sum)[first:first + hvd.rank() + 1]))


@check
def brings_parameters_and_optimizers_to_one_value():
    torch.manual_seed(hvd.rank())
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1 * (hvd.rank() + 1))
    if hvd.rank() == 1:  # the others have no state yet
        model(own((5, 4))).sum().backward()
        optimizer.step()
    hvd.broadcast_parameters(model.state_dict(), root_rank=1)
    hvd.broadcast_parameters(model.named_parameters(), root_rank=1)
    plain = [torch.full(shape, float(hvd.rank())) for shape in ((2, 3), (2,), (3, 1))]
    hvd.broadcast_parameters(plain, root_rank=1)
    expect(all(bool((tensor == 1).all()) for tensor in plain), plain)
    hvd.broadcast_optimizer_state(optimizer, root_rank=1)
    parts = gathered_by_gloo((model.state_dict(), optimizer.state_dict()))
    for other, state in parts:
        expect(all(torch.equal(a, b) for a, b in zip(other.values(), parts[0][0].values())))
        expect(state["param_groups"] == parts[0][1]["param_groups"])
        expect(len(state["state"]) == 4)
        for i, values in state["state"].items():
            expect(all(torch.equal(value, parts[0][1]["state"][i][key]) for key, value in values.items()))
    expect(optimizer.param_groups[0]["lr"] == 0.2)


@check
def to_register_an_optimizer_changes_none_of_its_steps():
    optim, decay = torch.optim, {"weight_decay": 0.1}
    for kind, options in ((optim.SGD, {"momentum": 0.9, **decay}), (optim.Adam, decay), (optim.AdamW, {}),
                          (optim.NAdam, decay), (optim.RAdam, decay), (optim.Adamax, decay), (optim.Adadelta, decay),
                          (optim.Adagrad, decay), (optim.ASGD, decay), (optim.Rprop, {}), (optim.Adafactor, decay),
                          (optim.RMSprop, {"momentum": 0.9, "centered": True, **decay}), (optim.Muon, decay)):
        values = []
        for registers in (False, True):
            parameter = torch.nn.Parameter(torch.linspace(-1, 1, 6).reshape(3, 2))
            optimizer = kind([parameter], lr=0.1, **options)
            if registers:
                hvd.register_state(f"a {kind.__name__}", optimizer)
            for gradient in (0.3, -0.7, 2.0):
                parameter.grad = torch.linspace(gradient, 1, 6).reshape(3, 2)
                optimizer.step()
            values.append(parameter.detach())
        expect(torch.equal(*values), f"{kind.__name__}: {values}")
    text = raised(ValueError, hvd.register_state, "one", optim.SGD([parameter], momentum=0.5, dampening=0.1))
    expect("dampening" in text, text)


@check
def passes_objects():
    thing = {"rank": hvd.rank(), "list": [1, 2, "x" * hvd.rank()]}
    expect(hvd.broadcast_object(thing, root_rank=1)["rank"] == 1)
    expect([one["rank"] for one in hvd.allgather_object(thing)] == list(range(hvd.size())))
    hvd.barrier()


def model_and_data(seed):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    return model, [own((5, 6), seed=step) for step in range(6)]


def train(optimizer_of, exchange, passes=1, clip=False, **options):
    """The parameters after some steps with an optimizer of either kind."""
    model, batches = model_and_data(7)
    optimizer = optimizer_of(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), model, **options)
    for begin in range(0, len(batches), passes):
        optimizer.zero_grad()
        for batch in batches[begin:begin + passes]:
            model(batch).square().mean().backward()
        exchange(optimizer, model)
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)
            with optimizer.skip_synchronize() if hasattr(optimizer, "skip_synchronize") else torch.enable_grad():
                optimizer.step()
        else:
            optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def gloo_exchange(_, model):
    for parameter in model.parameters():
        gloo.all_reduce(parameter.grad)
        parameter.grad /= hvd.size()


def distributed(optimizer, model, **options):
    return hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters(), **options)


@check
def trains_as_with_gloo():
    plain = lambda optimizer, model: optimizer  # noqa: E731
    nothing = lambda optimizer, model: None  # noqa: E731
    wait = lambda optimizer, model: optimizer.synchronize()  # noqa: E731
    expected = train(plain, gloo_exchange)
    expect(close(train(distributed, nothing), expected))
    expect(close(train(distributed, nothing, gradient_predivide_factor=2.0), expected))
    expect(close(train(distributed, nothing, compression=hvd.Compression.fp16), expected, 1e-2))
    expect(close(train(distributed, nothing, passes=3, backward_passes_per_step=3),
                 train(plain, gloo_exchange, passes=3)))
    expect(close(train(distributed, wait, clip=True), train(plain, gloo_exchange, clip=True)))


@check
def a_distributed_optimizer_is_the_optimizer():
    model, batches = model_and_data(3)
    inner = torch.optim.Adam(model.parameters(), lr=0.5)
    optimizer = distributed(inner, model)
    expect(isinstance(optimizer, torch.optim.Adam) and type(optimizer).__name__ == "Adam")
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)

    def closure():
        optimizer.zero_grad()
        loss = model(batches[0]).square().mean()
        loss.backward()
        return loss

    expect(optimizer.step(closure) >= 0)
    schedule.step()
    expect(optimizer.param_groups[0]["lr"] == 0.25 and len(optimizer.state) == 4)
    grads = [p.grad for p in model.parameters()]
    expect(all(torch.equal(one[i], grads[i]) for one in gathered_by_gloo(grads) for i in range(4)))
    model(batches[1]).sum().backward()
    expect("zero_grad" in raised(RuntimeError, optimizer.zero_grad))
    expect("backward_passes" in raised(RuntimeError, model(batches[1]).sum().backward))
    optimizer.step()
    raised(ValueError, hvd.DistributedOptimizer, inner, named_parameters=[("one", next(model.parameters()))])
    raised(ValueError, distributed, inner, model, op=hvd.Sum, gradient_predivide_factor=2.0)


@check
def what_is_loaded_into_an_optimizer_reaches_who_shares_it():
    for load_into in ("the distributed one", "the one that it was made of"):
        model, batches = model_and_data(5)
        inner = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
        schedule = torch.optim.lr_scheduler.StepLR(inner, step_size=1, gamma=0.5)
        optimizer = distributed(inner, model)
        steps = []
        optimizer.register_step_post_hook(lambda *_: steps.append(1))
        hvd.broadcast_optimizer_state(optimizer if load_into == "the distributed one" else inner, root_rank=1)
        model(batches[0]).sum().backward()
        optimizer.step()
        schedule.step()
        expect((optimizer.param_groups[0]["lr"], len(steps)) == (0.25, 1), (load_into, optimizer, steps))
        expect(inner.state is optimizer.state and len(inner.state) == 4)


@check
def ranks_may_use_different_parts_of_a_model():
    torch.manual_seed(1)
    parts = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(2))
    optimizer = distributed(torch.optim.SGD(parts.parameters(), lr=0.1), parts)
    parts[hvd.rank() % 2](torch.ones(1, 2)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    states = gathered_by_gloo([p.detach() for p in parts.parameters()])
    expect(all(torch.equal(a, b) for other in states for a, b in zip(other, states[0])))


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


@check
def refuses_what_it_cannot_take():
    expect("bool" in raised(TypeError, hvd.allreduce, torch.tensor([True]), op=hvd.Sum))
    expect(hvd.allreduce(torch.tensor([hvd.rank() == 0]), op=hvd.Max).tolist() == [True])
    sparse = torch.eye(3).to_sparse()
    raised((TypeError, RuntimeError, BufferError, NotImplementedError), hvd.allreduce, sparse)


def main():
    hvd.init()
    path = hvd.broadcast_object(tempfile.mktemp(prefix="hora-gloo-"))
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    gloo.init_process_group("gloo", init_method=f"file://{path}", rank=hvd.rank(), world_size=hvd.size())
    torch.set_num_threads(1)
    status = run_all(hvd.size())
    gloo.destroy_process_group()
    hvd.shutdown()
    expect("init" in raised(ValueError, hvd.rank))
    return status


if __name__ == "__main__":
    sys.exit(main())
