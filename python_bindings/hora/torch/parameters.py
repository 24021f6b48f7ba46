"""What ranks bring to the same value before they train, and what newcomers need of the others."""

import ctypes
import io
import pickle

import torch

from hora.torch import world
from hora.torch.collectives import allgather_async, broadcast_, broadcast_async_
from hora.torch.operations import synchronize
from hora.torch.optimizer import loading_in_place


def broadcast_parameters(params, root_rank):
    """Of rank `root_rank`, to all. `params`: a state_dict(), named_parameters() or parameters()."""
    items = params.items() if isinstance(params, dict) else params
    named = dict(item if isinstance(item, tuple) else (str(i), item) for i, item in enumerate(items))
    _broadcast_all({name: tensor.detach() for name, tensor in named.items() if isinstance(tensor, torch.Tensor)},
                   "parameters", world.member_at(root_rank))


def _broadcast_all(tensors, kind, root):
    handles = [broadcast_async_(tensor, world.rank_of(root), f"{kind}.{name}") for name, tensor in tensors.items()]
    for handle in handles:
        synchronize(handle)


def broadcast_object(obj, root_rank=0, name=None):
    """The object of rank `root_rank`, on every rank; it must be picklable."""
    return _broadcast_object(obj, world.member_at(root_rank), _is(root_rank), name or "object")


def _is(root_rank):
    return world.rank() == root_rank and not world.observing()  # a newcomer has the rank of the one that it follows


def _broadcast_object(obj, root, is_root, name):
    content = torch.empty(0, dtype=torch.uint8)
    if is_root:
        content = torch.frombuffer(bytearray(pickle.dumps(obj)), dtype=torch.uint8)
    size = torch.tensor([content.numel()])
    telling = broadcast_async_(size, world.rank_of(root), f"{name}.size")
    synchronize(telling)
    if telling.contributors == 0:
        return obj
    if not is_root:
        content = torch.empty(int(size), dtype=torch.uint8)
    broadcast_(content, world.rank_of(root), f"{name}.content")
    return obj if is_root else _loads(content)


def allgather_object(obj, name=None):
    """The objects of all ranks, as a list, on every rank."""
    content = torch.frombuffer(bytearray(pickle.dumps(obj)), dtype=torch.uint8)
    gathering = allgather_async(content, name)
    return [_loads(part) for part in synchronize(gathering).split(gathering.rows)]


def _loads(content):
    return pickle.loads(ctypes.string_at(content.data_ptr(), content.numel()))


def broadcast_optimizer_state(optimizer, root_rank):
    """Of rank `root_rank`, to all: the state of each parameter, learning rates and the like."""
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ValueError("broadcast_optimizer_state: LBFGS keeps no state for each parameter; broadcast a checkpoint")
    root, is_root = world.member_at(root_rank), _is(root_rank)
    state = optimizer.state_dict()
    tensors, skeleton = _take_apart(state) if is_root else ([], b"")
    skeleton = _broadcast_object(skeleton, root, is_root, "optimizer")
    if not skeleton:
        return  # of a newcomer, before its first step()
    if not is_root:
        tensors, state = _put_together(skeleton)
    _broadcast_all(dict(enumerate(tensors)), "optimizer", root)
    if not is_root:
        with loading_in_place(optimizer).around(optimizer):
            optimizer.load_state_dict(state)


def register_state(name, value):
    """Memory that a newcomer gets from the others (see step()): of a tensor, a module or an optimizer.

    All ranks register the same before their first step(). An optimizer's state must be there by then; one that has
    taken no step yet gets it here, as after no step. What is no tensor, such as a learning rate that a schedule has
    set, is not covered: compute it from a registered counter of steps. What is loaded later must be of the same shapes,
    and is copied: a state_dict() that should be a snapshot needs copy.deepcopy().
    """
    if isinstance(value, torch.optim.Optimizer):
        if not value.state:
            _make_state(value)
        for i, state in value.state_dict()["state"].items():
            for key, tensor in state.items():
                if isinstance(tensor, torch.Tensor):
                    _register(f"{name}.{i}.{key}", tensor)
        loading_in_place(value).is_registered = True
    elif isinstance(value, torch.nn.Module):
        for key, tensor in value.state_dict().items():
            _register(f"{name}.{key}", tensor)
    else:
        _register(name, value)


def _register(name, tensor):
    """The memory of a dense tensor, whatever the order of its dimensions there: channels_last, for example."""
    dimensions = range(tensor.dim())
    order = sorted((d for d in dimensions if tensor.shape[d] != 1), key=tensor.stride, reverse=True)
    memory = tensor.detach().permute([d for d in dimensions if tensor.shape[d] == 1] + order)
    if not memory.is_contiguous():
        raise ValueError(f"register_state: {name} has gaps between its elements, or elements in common; it is a part "
                         "of another tensor: register that one")
    if order != sorted(order):
        name = f"{name} (dimensions in the order {order})"  # which ranks that lay it out otherwise do not have
    world.communicator().register_state(name, memory)


# What tells an optimizer of the steps that it has taken. All else that a step with gradients of zero leaves is zero, or
# what the optimizer was made with.
_BEFORE_ANY_STEP = {"step": lambda group: 0, "mu_product": lambda group: 1, "mu": lambda group: 1,
                    "eta": lambda group: group["lr"]}


def _make_state(optimizer):
    """Has an optimizer make the tensors of its state, as before its first step, by a step that changes nothing."""
    groups = optimizer.param_groups
    if any(group.get("dampening") for group in groups):
        raise ValueError("register_state: with dampening, the first step differs from all others; take one before")
    parameters = [p for group in groups for p in group["params"] if p.requires_grad]
    before = [(p.detach().clone(), p.grad) for p in parameters]
    decays = [group.get("weight_decay") for group in groups]
    for group in groups:
        if "weight_decay" in group:
            group["weight_decay"] = 0.0
    for p in parameters:
        p.grad = torch.zeros_like(p)
    # The step of the optimizer itself, without the exchange of gradients.
    getattr(optimizer, "step_alone", optimizer.step)()
    with torch.no_grad():
        for p, (value, gradient) in zip(parameters, before):
            p.copy_(value)
            p.grad = gradient
        for group, decay in zip(groups, decays):
            if "weight_decay" in group:
                group["weight_decay"] = decay
            for state in (optimizer.state.get(p, {}) for p in group["params"]):
                for key, value_of in _BEFORE_ANY_STEP.items():
                    if isinstance(state.get(key), torch.Tensor):
                        state[key].fill_(value_of(group))


class _Taking(pickle.Pickler):
    """Leaves tensors out, and keeps them in their order."""

    def __init__(self, file):
        super().__init__(file)
        self.tensors = []

    def persistent_id(self, obj):
        if not isinstance(obj, torch.Tensor):
            return None
        self.tensors.append(obj.detach())
        return tuple(obj.shape), obj.dtype


class _Putting(pickle.Unpickler):
    """Puts empty tensors where tensors were left out."""

    def __init__(self, file):
        super().__init__(file)
        self.tensors = []

    def persistent_load(self, pid):
        shape, dtype = pid
        self.tensors.append(torch.empty(shape, dtype=dtype))
        return self.tensors[-1]


def _take_apart(state):
    file = io.BytesIO()
    pickler = _Taking(file)
    pickler.dump(state)
    return pickler.tensors, file.getvalue()


def _put_together(skeleton):
    unpickler = _Putting(io.BytesIO(skeleton))
    state = unpickler.load()
    return unpickler.tensors, state
