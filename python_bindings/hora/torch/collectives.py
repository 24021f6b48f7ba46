"""allreduce, broadcast and allgather of tensors, with the names and arguments of Horovod.

A name stands for the same tensor on all ranks, and lets them submit in any order. Without one, operations are matched
in the order in which ranks submit them. `op` is Average unless said otherwise; an average divides by the number of
ranks whose values are in it. What ends with `_` works in place, what has `async` returns at once, for synchronize().
"""

import torch

from hora.torch import world
from hora.torch.compression import Compression
from hora.torch.operations import Average, Broadcast, Gathering, Reduction, Sum, synchronize


def allreduce_async(tensor, average=None, name=None, op=None, prescale_factor=1.0, postscale_factor=1.0):
    """Of `tensor` * prescale_factor; the result is multiplied by postscale_factor."""
    return Reduction(tensor, torch.empty_like(tensor), name, _op(average, op), prescale_factor, postscale_factor)


def allreduce_async_(tensor, average=None, name=None, op=None, prescale_factor=1.0, postscale_factor=1.0):
    return Reduction(tensor, tensor, name, _op(average, op), prescale_factor, postscale_factor)


def allreduce(tensor, average=None, name=None, compression=Compression.none, op=None, prescale_factor=1.0,
              postscale_factor=1.0):
    """Differentiable: the gradient is reduced in the same way."""
    if tensor.requires_grad:
        return _Allreduce.apply(tensor, name, compression, _op(average, op), prescale_factor, postscale_factor)
    compressed, context = compression.compress(tensor)
    handle = allreduce_async(compressed, average, name, op, prescale_factor, postscale_factor)
    return compression.decompress(synchronize(handle), context)


def allreduce_(tensor, average=None, name=None, op=None, prescale_factor=1.0, postscale_factor=1.0):
    return synchronize(allreduce_async_(tensor, average, name, op, prescale_factor, postscale_factor))


class Group:
    """Several operations as one handle."""

    def __init__(self, handles):
        self._handles = handles

    def poll(self):
        return all(handle.poll() for handle in self._handles)

    def synchronize(self):
        return [handle.synchronize() for handle in self._handles]


def grouped_allreduce_async(tensors, average=None, name=None, op=None, prescale_factor=1.0, postscale_factor=1.0):
    return _group(allreduce_async, tensors, average, name, op, prescale_factor, postscale_factor)


def grouped_allreduce_async_(tensors, average=None, name=None, op=None, prescale_factor=1.0, postscale_factor=1.0):
    return _group(allreduce_async_, tensors, average, name, op, prescale_factor, postscale_factor)


def grouped_allreduce(tensors, average=None, name=None, compression=Compression.none, op=None, prescale_factor=1.0,
                      postscale_factor=1.0):
    if any(tensor.requires_grad for tensor in tensors):
        return [allreduce(tensor, average, None if name is None else f"{name}.{i}", compression, op, prescale_factor,
                          postscale_factor) for i, tensor in enumerate(tensors)]
    compressed, contexts = zip(*map(compression.compress, tensors)) if tensors else ((), ())
    handle = grouped_allreduce_async(compressed, average, name, op, prescale_factor, postscale_factor)
    return [compression.decompress(*pair) for pair in zip(synchronize(handle), contexts)]


def grouped_allreduce_(tensors, average=None, name=None, op=None, prescale_factor=1.0, postscale_factor=1.0):
    return synchronize(grouped_allreduce_async_(tensors, average, name, op, prescale_factor, postscale_factor))


def broadcast_async(tensor, root_rank, name=None):
    return Broadcast(tensor.detach().clone(), name, root_rank)


def broadcast_async_(tensor, root_rank, name=None):
    return Broadcast(tensor, name, root_rank)


def broadcast(tensor, root_rank, name=None):
    """Differentiable: rank `root_rank` gets the average of the gradients, as in Horovod."""
    if tensor.requires_grad:
        return _Broadcast.apply(tensor, root_rank, name)
    return synchronize(broadcast_async(tensor, root_rank, name))


def broadcast_(tensor, root_rank, name=None):
    return synchronize(broadcast_async_(tensor, root_rank, name))


def allgather_async(tensor, name=None):
    return Gathering(tensor, name)


def allgather(tensor, name=None):
    """The tensors of all ranks, one after the other. Their first dimensions may differ.

    Differentiable: each rank gets its part of the average of the gradients, as in Horovod.
    """
    if tensor.requires_grad:
        return _Allgather.apply(tensor, name)
    return synchronize(allgather_async(tensor, name))


def _op(average, op):
    if op is not None and average is not None:
        raise ValueError("give op or average, not both; average is Horovod's former name for op=Average")
    if op is not None:
        return op
    return Sum if average is False else Average


def _group(submit, tensors, average, name, op, prescale_factor, postscale_factor):
    names = [None if name is None else f"{name}.{i}" for i in range(len(tensors))]
    return Group([submit(tensor, average, one, op, prescale_factor, postscale_factor)
                  for tensor, one in zip(tensors, names)])


class _Allreduce(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor, name, compression, op, prescale_factor, postscale_factor):
        ctx.arguments = (compression, op, prescale_factor, postscale_factor)
        return allreduce(tensor.detach(), None, name, *ctx.arguments)

    @staticmethod
    def backward(ctx, gradient):
        return allreduce(gradient, None, None, *ctx.arguments), None, None, None, None, None


class _Broadcast(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor, root_rank, name):
        ctx.is_root = world.rank() == root_rank
        return broadcast(tensor.detach(), root_rank, name)

    @staticmethod
    def backward(ctx, gradient):
        average = allreduce(gradient)
        return (average if ctx.is_root else torch.zeros_like(average)), None, None


class _Allgather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor, name):
        gathering = allgather_async(tensor, name)
        result = synchronize(gathering)
        ctx.shape, ctx.first = tensor.shape, gathering.first
        return result

    @staticmethod
    def backward(ctx, gradient):
        average = allreduce(gradient)
        rows = ctx.shape[0] if ctx.shape else 1
        return average[ctx.first:ctx.first + rows].reshape(ctx.shape), None
