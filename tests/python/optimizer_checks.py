"""Checks of what hora.torch does with parameters and optimizers, on every rank of a job."""

import copy
import sys

import torch
import torch.distributed as gloo

import hora.torch as hvd
from beside_gloo import close, gathered_by_gloo, main, own
from checks import check, expect, raised


def model_and_data(seed):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    return model, [own((5, 6), seed=step) for step in range(6)]


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
def what_is_loaded_into_a_registered_optimizer_lies_where_it_was_registered():
    plain = lambda optimizer, model: optimizer  # noqa: E731
    for i, (kind, makes) in enumerate(((torch.optim.Adam, distributed), (torch.optim.Adam, plain),
                                       (torch.optim.SGD, distributed))):
        model, batches = model_and_data(4)
        options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
        optimizer = makes(kind(model.parameters(), lr=0.5, **options), model)
        hvd.register_state(f"loaded into {i}", optimizer)
        other = kind([torch.nn.Parameter(p.detach().clone()) for p in model.parameters()], lr=0.25, **options)
        for p in other.param_groups[0]["params"]:
            p.grad = torch.full_like(p, 1.0 + hvd.rank())
        other.step()
        places = [value.data_ptr() for state in optimizer.state.values() for value in state.values()]
        optimizer.load_state_dict(other.state_dict())
        expect(optimizer.param_groups[0]["lr"] == 0.25)
        loaded = [value for state in optimizer.state.values() for value in state.values()]
        given = [value for state in other.state.values() for value in state.values()]
        expect(all(torch.equal(*pair) for pair in zip(loaded, given, strict=True)))
        hvd.broadcast_optimizer_state(optimizer, root_rank=1)
        loaded = [value for state in optimizer.state.values() for value in state.values()]
        expect([value.data_ptr() for value in loaded] == places)
        expect(all(torch.equal(*pair) for one in gathered_by_gloo(loaded) for pair in zip(one, loaded, strict=True)))
        nothing = kind([torch.nn.Parameter(p.detach().clone()) for p in model.parameters()], **options)
        expect("registered" in raised(ValueError, optimizer.load_state_dict, nothing.state_dict()))
        expect([value.data_ptr() for state in optimizer.state.values() for value in state.values()] == places)


@check
def a_snapshot_of_an_optimizer_that_nobody_registered_stays_one():
    model, batches = model_and_data(4)
    optimizer = distributed(torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9), model)
    model(batches[0]).sum().backward()
    optimizer.step()
    before = optimizer.state_dict()
    values = copy.deepcopy(before)
    other = copy.deepcopy(before)
    for state in other["state"].values():
        state["momentum_buffer"].fill_(7.0)
    optimizer.load_state_dict(other)
    optimizer.load_state_dict(before)
    for i, state in optimizer.state_dict()["state"].items():
        expect(torch.equal(state["momentum_buffer"], values["state"][i]["momentum_buffer"]))


@check
def what_ended_before_an_interrupt_is_not_submitted_again():
    model, batches = model_and_data(4)
    optimizer = distributed(torch.optim.SGD(model.parameters(), lr=0.5), model)
    model(batches[0]).sum().backward()
    operations = [operation for operation, _ in optimizer._exchange.pending.values()]
    wait, operations[1].synchronize = operations[1].synchronize, lambda: raise_(KeyboardInterrupt())
    raised(KeyboardInterrupt, optimizer.synchronize)
    expect([operation for operation, _ in optimizer._exchange.pending.values()] == operations)
    operations[1].synchronize = wait
    optimizer.synchronize()
    expect(not optimizer._exchange.pending)
    gradients = [p.grad for p in model.parameters()]
    expect(all(torch.equal(*pair) for one in gathered_by_gloo(gradients) for pair in zip(one, gradients, strict=True)))


def raise_(error):
    raise error


@check
def dense_memory_can_be_registered_in_any_order():
    model = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    expect(not model.weight.is_contiguous())
    hvd.register_state("channels last", model)
    hvd.register_state("a turned one", torch.ones(3, 4).t())
    hvd.register_state("one number", torch.tensor(3.0))
    for tensor in (torch.ones(4, 4)[:, :2], torch.ones(3).expand(2, 3)):
        expect("gaps" in raised(ValueError, hvd.register_state, "gaps", tensor))


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


class Uneven(hvd.Compression.none):
    """Sends another shape on each rank, while it is told to."""

    now = True

    @classmethod
    def compress(cls, tensor):
        more = torch.zeros(hvd.rank() if cls.now and tensor.dim() == 2 else 0)
        return torch.cat([tensor.flatten(), more]), tensor.shape

    @classmethod
    def decompress(cls, tensor, shape):
        return tensor[:shape.numel()].reshape(shape)


@check
def a_step_that_fails_is_followed_by_one_that_does_not():
    Uneven.now = True
    model, batches = model_and_data(8)
    optimizer = distributed(torch.optim.SGD(model.parameters(), lr=0.1), model, compression=Uneven)
    model(batches[0]).sum().backward()
    expect("rank 1" in raised(hvd.HorovodInternalError, optimizer.step))
    Uneven.now = False
    optimizer.zero_grad()
    model(batches[0]).sum().backward()
    optimizer.step()
    grads = [p.grad for p in model.parameters()]
    expect(all(torch.equal(one[i], grads[i]) for one in gathered_by_gloo(grads) for i in range(4)))


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


if __name__ == "__main__":
    sys.exit(main())
