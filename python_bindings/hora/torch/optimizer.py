"""An optimizer whose gradients are averaged over all ranks, each as soon as the backward pass has made it."""

import contextlib
import itertools

import torch

from hora.torch.compression import Compression
from hora.torch.operations import Average, Reduction

_numbers = itertools.count()


def DistributedOptimizer(optimizer, named_parameters=None, compression=Compression.none, backward_passes_per_step=1,
                         op=Average, gradient_predivide_factor=1.0, sparse_as_dense=False):
    """`optimizer`, with an allreduce of each gradient between backward() and step(). It keeps its class and its state.

    named_parameters: names by which ranks match gradients; without them, positions in the optimizer.
    backward_passes_per_step: gradients are exchanged after so many backward passes, which add them up.
    gradient_predivide_factor: for op=Average, the part of the division that comes before the sum.
    sparse_as_dense: makes sparse gradients dense; without it they are refused.

    A rank that dies is left out of the averages from then on; the loop of the others goes on as if nothing happened.
    """
    if gradient_predivide_factor != 1.0 and op != Average:
        raise ValueError("gradient_predivide_factor is for op=Average")
    if backward_passes_per_step < 1:
        raise ValueError("backward_passes_per_step must be at least 1")
    loading_in_place(optimizer)
    own = type(optimizer)
    distributed = type(own.__name__, (_Distributed, own), {"__doc__": own.__doc__})
    wrapped = distributed.__new__(distributed)
    # Parameters, state and hooks are shared with the optimizer; a step() that a schedule has put into it is its own.
    wrapped.__dict__.update((key, value) for key, value in optimizer.__dict__.items() if key != "step")
    names = _names_of(optimizer, named_parameters)
    wrapped._exchange = _Exchange(names, compression, op, gradient_predivide_factor, sparse_as_dense)
    wrapped._synchronizes = True
    wrapped._exchange.set_passes(backward_passes_per_step)
    return wrapped


def loading_in_place(optimizer):
    """Has load_state_dict() of `optimizer`, and of those that share its state, keep groups, state and tensors."""
    if not hasattr(optimizer, "_hora_loading"):
        optimizer._hora_loading = _Loading(optimizer)
    return optimizer._hora_loading


class _Loading:
    """Around load_state_dict(): torch's own makes new groups and a new state, which those that share the optimizer's,
    such as the schedule of the optimizer that was made a distributed one, would not see; nor would a newcomer get the
    new tensors in place of those that were registered.
    """

    def __init__(self, optimizer):
        self.is_registered = False  # then all tensors must stay
        self._kept = None  # while it loads
        if hasattr(optimizer, "_optimizer_load_state_dict_pre_hooks"):  # some wrappers of optimizers have none
            optimizer.register_load_state_dict_pre_hook(self._begin)
            optimizer.register_load_state_dict_post_hook(self._end)

    @contextlib.contextmanager
    def around(self, optimizer):
        """For optimizers that run no hooks; nothing more where they do."""
        self._begin(optimizer)
        yield
        self._end(optimizer)

    def _begin(self, optimizer, _=None):
        self._kept = optimizer.param_groups, optimizer.state

    def _end(self, optimizer):
        if self._kept is None:
            return
        (old_groups, old_state), self._kept = self._kept, None
        groups, state = optimizer.param_groups, optimizer.state
        optimizer.param_groups, optimizer.state = old_groups, old_state
        if self.is_registered:
            _move_into(_tensors_of(old_state), state)
        for target, loaded in [*zip(old_groups, groups), (old_state, state)]:
            content = dict(loaded)
            target.clear()
            target.update(content)


def _move_into(kept, state):
    """Copies the tensors of `state` into those of the same place, which take their place."""
    loaded = _tensors_of(state)
    if {place: _kind_of(tensor) for place, tensor in loaded.items()} != {
            place: _kind_of(tensor) for place, tensor in kept.items()}:
        raise ValueError("load_state_dict: the optimizer is registered for newcomers, with other tensors than those to "
                         "be loaded; load them before register_state()")
    for (parameter, key), tensor in loaded.items():
        state[parameter][key] = kept[parameter, key].copy_(tensor)


def _kind_of(tensor):
    return tensor.shape, tensor.dtype, tensor.device


def _tensors_of(state):
    return {(parameter, key): value for parameter, values in state.items() if isinstance(values, dict)
            for key, value in values.items() if isinstance(value, torch.Tensor)}


class _Distributed:
    """What comes before an optimizer's own class."""

    def synchronize(self):
        """Waits for all gradients, which are averages then. For what must see them before step(), such as clipping."""
        self._exchange.finish()

    @contextlib.contextmanager
    def skip_synchronize(self):
        """Around a step() that follows a synchronize()."""
        self._synchronizes = False
        try:
            yield
        finally:
            self._synchronizes = True

    def set_backward_passes_per_step(self, passes):
        self._exchange.set_passes(passes)

    def step(self, closure=None):
        if closure is not None:
            return self.step_alone(lambda: self._compute(closure))
        if self._synchronizes:
            self._exchange.finish()
        return self.step_alone()

    step.hooked = True  # for torch: step_alone() runs the hooks of step()

    def step_alone(self, closure=None):
        """The optimizer's own step, without an exchange."""
        return super().step(closure)

    def load_state_dict(self, state_dict):
        with loading_in_place(self).around(self):
            return super().load_state_dict(state_dict)

    def zero_grad(self, *arguments, **options):
        if self._exchange.pending:
            raise RuntimeError("zero_grad() between backward() and step() or synchronize(): gradients are on their way")
        return super().zero_grad(*arguments, **options)

    def _compute(self, closure):
        with torch.enable_grad():
            loss = closure()
        self._exchange.finish()
        return loss


class _Exchange:
    """The gradients of one optimizer that are on their way."""

    def __init__(self, names, compression, op, predivide, sparse_as_dense):
        self._names, self._compression, self._op = names, compression, op
        self._scales = (1.0 / predivide, predivide)
        self._sparse_as_dense = sparse_as_dense
        self.pending = {}  # parameter: (operation, context of the compression)
        self._passes_left = {}
        self._hooks = [p.register_post_accumulate_grad_hook(self._on_gradient) for p in names]

    def set_passes(self, passes):
        self._passes = passes
        self._passes_left = dict.fromkeys(self._names, passes)

    def _on_gradient(self, parameter):
        if parameter in self.pending:
            raise RuntimeError("a gradient was computed more than backward_passes_per_step times before step(); raise "
                               "backward_passes_per_step to add gradients up")
        self._passes_left[parameter] -= 1
        if self._passes_left[parameter] == 0:
            self._submit(parameter)

    def _submit(self, parameter):
        if parameter.grad is None:
            # Not in this rank's backward pass, but possibly in that of another.
            parameter.grad = torch.zeros_like(parameter)
        if parameter.grad.is_sparse:
            if not self._sparse_as_dense:
                raise ValueError(f"the gradient of {self._names[parameter]} is sparse: use sparse_as_dense=True")
            parameter.grad = parameter.grad.to_dense()
        compressed, context = self._compression.compress(parameter.grad)
        operation = Reduction(compressed, compressed, self._names[parameter], self._op, *self._scales)
        self.pending[parameter] = operation, context

    def finish(self):
        """Ends all of them, where some fail as well: the next step is as good as any. Then raises the first error."""
        errors = []
        for parameter in self._names:
            if parameter not in self.pending:
                try:
                    self._submit(parameter)
                except Exception as error:
                    errors.append(error)
        for parameter in self.pending:
            try:
                self._end(parameter)
            except Exception as error:
                errors.append(error)
        self.pending.clear()  # all or, where Ctrl-C has left a wait, none: what has ended must not be submitted again
        self.set_passes(self._passes)
        if errors:
            raise errors[0]

    def _end(self, parameter):
        operation, context = self.pending[parameter]
        result = self._compression.decompress(operation.synchronize(), context)
        if result.data_ptr() != parameter.grad.data_ptr():
            parameter.grad.copy_(result)


def _names_of(optimizer, named_parameters):
    """Parameter: name, of all that need gradients. Names differ between the optimizers of a process."""
    given = list(named_parameters) if named_parameters is not None else []
    if any(not isinstance(item, tuple) for item in given):
        raise ValueError("named_parameters: give pairs of a name and a parameter, e.g. model.named_parameters()")
    if len({name for name, _ in given}) < len(given):
        raise ValueError("named_parameters: a name stands for more than one parameter")
    number = next(_numbers)
    prefix = f"optimizer{number}." if number else ""
    names = {}
    known = {parameter: name for name, parameter in given}
    for i, group in enumerate(optimizer.param_groups):
        for j, parameter in enumerate(group["params"]):
            if given and parameter not in known:
                raise ValueError("named_parameters lacks a parameter of the optimizer")
            if parameter.requires_grad:
                names[parameter] = prefix + known.get(parameter, f"{i}.{j}")
    return names
