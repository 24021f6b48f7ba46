"""Asynchronous collectives, and what waits for them. Every other call of hora.torch is made of these."""

import abc
import contextlib
import threading

import torch

from hora import HoraError, PeerFailedError, ReduceOp, TimedOutError
from hora.torch import world

Average, Sum, Min, Max, Product = ReduceOp.AVERAGE, ReduceOp.SUM, ReduceOp.MIN, ReduceOp.MAX, ReduceOp.PRODUCT

SHORTLY = 0.001  # seconds


class Operation(abc.ABC):
    """What an asynchronous call returns, for poll() and synchronize()."""

    def __init__(self, kind, name):
        self.name = f"{kind}.{f'noname.{world.take_index(kind)}' if name is None else name}"
        self._handle = None  # of what is under way
        self._result = None
        self.contributors = None  # 0: of a newcomer, before its first step(), which gets back what it gave

    @abc.abstractmethod
    def _conclude(self, outcome):
        """The result, once what is under way has ended; None when that began something else."""

    def poll(self):
        return self._result is not None or (self._handle.done() and self._advance())

    def synchronize(self):
        while self._result is None:
            _await_end(self._handle)
            self._advance()
        return self._result

    def _advance(self):
        """Of what is under way and has ended. True when there is a result."""
        outcome = self._handle.wait()
        self.contributors = outcome.contributors
        self._result = self._conclude(outcome)
        return self._result is not None


def _await_end(handle):
    """Keeps gatherings going meanwhile: another rank may wait for one before it submits what this rank waits for."""
    while not handle.done():
        others = [gathering for gathering in Gathering.unfinished if not gathering.waits_for(handle)]
        for gathering in others:
            with contextlib.suppress(HoraError):  # its own synchronize() raises it
                gathering.poll()
        try:
            handle.wait(SHORTLY if others else None)
        except HoraError as error:
            if not handle.done() and not isinstance(error, TimedOutError):
                raise


class Reduction(Operation):
    """An allreduce of `tensor` into `output`, which may be the same. Sums of integers are averaged by flooring."""

    def __init__(self, tensor, output, name, op, prescale, postscale):
        super().__init__("allreduce", name)
        self._output, self._postscale = output, postscale
        self._floors = op == Average and not tensor.is_floating_point()
        source = tensor.detach()
        if prescale != 1:
            source = _scaled(source, prescale)
        self._source = source.contiguous()
        # Memory that is not contiguous is reduced elsewhere, and copied. So is what has one divisor: parts of a sum in
        # place that a death interrupts have other contributors than its last one.
        elsewhere = not output.is_contiguous() or self._floors
        self._target = torch.empty(output.shape, dtype=output.dtype) if elsewhere else output.detach()
        op = Sum if self._floors else op
        self._handle = world.communicator().allreduce_async(self.name, self._source, self._target, op)

    def _conclude(self, outcome):
        if outcome.contributors == 0:
            self._target.copy_(self._source)
        elif self._floors:
            self._target.div_(outcome.contributors, rounding_mode="floor")
        if self._postscale != 1:
            self._target.copy_(_scaled(self._target, self._postscale))
        if self._target.data_ptr() != self._output.data_ptr():
            with torch.no_grad():
                self._output.copy_(self._target)
        return self._output


def _scaled(tensor, factor):
    return (tensor * factor).to(tensor.dtype)


class Broadcast(Operation):
    """Of the tensor of rank `root`, into `output`."""

    def __init__(self, output, name, root):
        super().__init__("broadcast", name)
        self._output = output
        self._target = output.detach().contiguous()
        self._handle = world.communicator().broadcast_async(self.name, self._target, root)

    def _conclude(self, outcome):
        if self._target.data_ptr() != self._output.data_ptr():
            with torch.no_grad():
                self._output.copy_(self._target)
        return self._output


class Gathering(Operation):
    """The tensors of all ranks, one after the other along their first dimension, which may differ between ranks.

    In two parts: how many rows each rank has, then the rows, of as many for each rank as the largest has. When a rank
    dies in between, all begin again with those that are left. With the result, `rows` tells what each rank has given to
    it, and `first` where those of this rank begin.
    """

    unfinished: list["Gathering"] = []

    def __init__(self, tensor, name):
        super().__init__("allgather", name)
        tensor = tensor.detach()
        self._tensor = tensor.reshape(1) if tensor.dim() == 0 else tensor.contiguous()
        self._lock = threading.Lock()  # around _advance(): any thread that waits for something keeps gatherings going
        self._ask_for_rows()
        Gathering.unfinished.append(self)

    def waits_for(self, handle):
        return self._handle is handle

    def _ask_for_rows(self):
        told = torch.empty(world.size(), dtype=torch.int64)
        own = torch.tensor([self._tensor.shape[0]], dtype=torch.int64)
        if self._submit(f"{self.name}.rows", own, told):
            self._told, self._gathered = told, None

    def _ask_for_data(self):
        most = max(self.rows)
        own, shape = self._tensor, self._tensor.shape[1:]
        if own.shape[0] < most:
            own = torch.cat([own, own.new_zeros((most - own.shape[0], *shape))])
        gathered = own.new_empty((len(self.rows), most, *shape))
        if self._submit(self.name, own, gathered):
            self._gathered = gathered

    def _submit(self, name, own, everything):
        try:
            self._handle = world.communicator().allgather_async(name, own, everything)
            return True
        except ValueError:
            if len(everything) == world.size():
                raise
            self._ask_for_rows()  # another thread has learnt of a death meanwhile
            return False

    def _advance(self):
        with self._lock:
            if self._result is not None or not self._handle.done():  # another thread was here
                return self._result is not None
            try:
                return super()._advance()
            except PeerFailedError:
                self._ask_for_rows()
                return False
            except HoraError:
                self._finish()
                raise

    def _conclude(self, outcome):
        if self._gathered is None:
            return self._conclude_rows(outcome)
        self._finish()
        if min(self.rows) == max(self.rows):
            return self._gathered.flatten(0, 1)
        return torch.cat([part[:rows] for part, rows in zip(self._gathered, self.rows)])

    def _conclude_rows(self, outcome):
        if outcome.contributors == 0:
            self._told.fill_(self._tensor.shape[0])
        elif world.size() != len(self._told):
            return self._ask_for_rows()  # a rank has died; who asks for the data nevertheless is told so
        self.rows = self._told.tolist()
        self.first = sum(self.rows[:world.rank()])
        if outcome.contributors == 0:
            self._finish()
            return torch.cat([self._tensor] * len(self.rows))
        return self._ask_for_data()

    def _finish(self):
        if self in Gathering.unfinished:
            Gathering.unfinished.remove(self)


def poll(handle: Operation) -> bool:
    """Whether synchronize() would return at once."""
    return handle.poll()


def synchronize(handle: Operation):
    """Waits for the end of an asynchronous call, and returns its result."""
    return handle.synchronize()
