"""The backend "hora" of torch.distributed. PyTorch finds it by its name:

    torch.distributed.init_process_group("hora")

For DistributedDataParallel, hora.torch.ddp_hook is the way that costs least and does not depend on who calls:

    model.register_comm_hook(None, hora.torch.ddp_hook)

A group only shrinks: when a rank dies, the calls of the others go on without it, and every one of them gets the same
result. torch.distributed goes on to count the dead one: get_world_size() and ranks stay what they were, and
hora.torch.size() tells how many are alive. So:

SUM        of the living. AVG divides by their number.
Gradients  that torch has divided by the number of ranks at the start, in DistributedDataParallel, in its hooks and in
           FSDP that is not sharded, are averaged over the living all the same: such a sum is multiplied by ranks at
           the start / ranks alive.
broadcast  from a dead rank fails on all ranks alike. The buffers that DistributedDataParallel takes from its rank 0
           come from the first one alive instead; every one has them.
reduce     to a dead rank ends well, and nobody has the result.
allgather  and what is made of it (gather, all_gather_object) fails once a rank has died: it has no place for fewer.
new_group  with a dead rank in it waits for that one until its timeout.

reduce costs as much as allreduce, gather as allgather, and scatter a broadcast of all its parts. What is missing here
(send, recv, reduce_scatter, all_to_all) raises an error that names it, and so do sparse tensors, such as the gradients
of an Embedding(sparse=True). Tensors lie in memory of the host.

With TORCH_DISTRIBUTED_DEBUG=DETAIL torch compares all calls through a group of gloo beside this one, which does not
outlive a death.
"""

import atexit
import os
import sys
import warnings

import torch
from torch.distributed import Backend as BackendNames
from torch.distributed import ReduceOp
from torch._C._distributed_c10d import Backend

import hora
from hora.torch import world
from hora.torch.meeting import meet, milliseconds_of, refuse_newcomer
from hora.torch.ordered import OrderedCalls

_OPERATIONS = {
    ReduceOp.SUM: hora.ReduceOp.SUM,
    ReduceOp.AVG: hora.ReduceOp.AVERAGE,
    ReduceOp.MIN: hora.ReduceOp.MIN,
    ReduceOp.MAX: hora.ReduceOp.MAX,
    ReduceOp.PRODUCT: hora.ReduceOp.PRODUCT,
    ReduceOp.PREMUL_SUM: hora.ReduceOp.SUM,
}
_OF_TRUTH = {ReduceOp.BAND: hora.ReduceOp.MIN, ReduceOp.BOR: hora.ReduceOp.MAX}

_C10D = ("torch.distributed.distributed_c10d", "torch.distributed.c10d_logger")
_DDP = "torch.nn.parallel.distributed"
_AVERAGING = tuple(f"torch.distributed.{name}" for name in (
    "algorithms.ddp_comm_hooks.", "algorithms.model_averaging.", "algorithms._comm_hooks.", "fsdp._runtime_utils"))


TORCH_LEAST = (2, 14)  # the first whose backends can be classes of Python, and are found by their entry point


def register():
    """The entry point of torch.distributed.backends."""
    if tuple(int(number) for number in torch.__version__.split(".")[:2]) < TORCH_LEAST:
        raise hora.UnsupportedError(f"the backend \"hora\" needs PyTorch {'.'.join(map(str, TORCH_LEAST))}; this is "
                                    f"{torch.__version__}, for which there are hora.torch's own functions")
    BackendNames.register_backend("hora", create, extended_api=True, devices=["cpu"])


def create(options, backend_options=None):
    """The backend of one group, from its c10d::DistributedBackendOptions."""
    refuse_newcomer()
    rank, size = options.group_rank, options.group_size
    if options.global_ranks_in_group:
        communicator, hosted = meet(options.store, rank, size, options.timeout)
        return HoraBackend(OrderedCalls(communicator), rank, size, options.timeout, hosted)
    began = not world.is_initialized()
    hosted = _begin_world(options) if began else None
    if (world.rank(), world.size()) != (rank, size):
        raise hora.InvalidArgumentError(f"init_process_group: rank {rank} of {size}, but hora.torch is initialized as "
                                        f"rank {world.rank()} of {world.size()}")
    return HoraBackend(world.ordered(), rank, size, options.timeout, hosted, owns=began)


def _begin_world(options):
    """Makes the communicator of the default group that of hora.torch as well."""
    rank, size = options.group_rank, options.group_size
    as_launched = (os.environ.get("HORA_RANK"), os.environ.get("HORA_SIZE")) == (str(rank), str(size))
    if as_launched and not world.has_begun():  # a job is joined once
        world.init(operation_timeout_ms=milliseconds_of(options.timeout))  # as `hora run` has it, which tells of deaths
        return None
    if rank == 0 and size > 1 and "TORCHELASTIC_RUN_ID" in os.environ:
        warnings.warn("torchrun ends all ranks when one dies; training that is to go on is started by hora run, or by "
                      "mpirun --enable-recovery", stacklevel=2)
    communicator, hosted = meet(options.store, rank, size, options.timeout)
    world.adopt(communicator)
    return hosted


class HoraBackend(Backend):
    """Of one process group. Calls that are not synchronous are made by other threads, in their order."""

    def __init__(self, calls, rank, size, timeout, hosted, owns=True):
        super().__init__(rank, size)
        self._calls = calls
        self._founding = calls.communicator.view  # whose ranks are those of the group
        self._submitted = 0
        self._hosted = hosted
        self._owns = owns
        self._options = Backend.Options("hora", timeout=timeout)
        if owns:
            atexit.register(self.shutdown)

    @property
    def options(self):
        return self._options

    def getBackendName(self):
        return "hora"

    def _get_sequence_number_for_group(self):
        return self._submitted  # which torch compares among the ranks with TORCH_DISTRIBUTED_DEBUG=DETAIL

    def shutdown(self):
        """Leaves the job in order; the others go on. At the end of the process, where nobody has called it."""
        if not self._owns:
            return
        self._owns = False
        atexit.unregister(self.shutdown)
        if world.is_initialized() and self._calls is world.ordered():
            world.shutdown()
        else:
            self._calls.shutdown()
        self._hosted = None

    abort = shutdown

    def allreduce(self, tensors, opts):
        is_mean = _is_divided_by_size(sys._getframe().f_back)
        return self._submit(lambda: self._reduce(tensors, opts.reduceOp, is_mean), tensors, opts)

    allreduce_coalesced = allreduce

    def reduce(self, tensors, opts):
        def reduce():
            target = tensors[opts.rootTensor]
            used = target if opts.rootRank == self.rank() else target.detach().clone()
            self._reduce([used], opts.reduceOp, False)
        return self._submit(reduce, tensors, opts)

    def broadcast(self, tensors, opts):
        may_differ = _module_of(sys._getframe().f_back) == _DDP
        return self._submit(lambda: self._broadcast(tensors[opts.rootTensor], opts.rootRank, may_differ), tensors, opts)

    def allgather(self, output_lists, inputs, opts):
        return self._gather_lists("all_gather", output_lists, inputs, output_lists, opts)

    def allgather_coalesced(self, output_lists, inputs, opts):
        """Its lists are by rank, and of one tensor for each input."""
        if any(len(outputs) != len(inputs) for outputs in output_lists):
            raise hora.InvalidArgumentError(f"all_gather_coalesced: give lists of {len(inputs)} tensors, as many as "
                                            "there are inputs")
        by_input = [[outputs[i] for outputs in output_lists] for i in range(len(inputs))]
        return self._gather_lists("all_gather_coalesced", by_input, inputs, output_lists, opts)

    def _gather_lists(self, operation, output_lists, inputs, result, opts):
        for outputs, source in zip(output_lists, inputs):
            self._check_parts(operation, outputs, source)

        def gather():
            for outputs, source in zip(output_lists, inputs):
                self._allgather_into(outputs, source)
        return self._submit(gather, result, opts)

    def all_gather_single(self, output, source, opts):
        return self._submit(lambda: self._allgather(source, output), [output], opts)

    def all_gather_single_coalesced(self, outputs, sources, opts):
        def gather():
            for output, source in zip(outputs, sources):
                self._allgather(source, output)
        return self._submit(gather, outputs, opts)

    def gather(self, output_lists, inputs, opts):
        parts = output_lists[0] if self.rank() == opts.rootRank else []
        if self.rank() == opts.rootRank:
            self._check_parts("gather", parts, inputs[0])
        return self._submit(lambda: self._allgather_into(parts, inputs[0]), output_lists, opts)

    def scatter(self, outputs, input_lists, opts):
        if self.rank() == opts.rootRank:
            self._check_parts("scatter", input_lists[0], outputs[0])

        def scatter():
            target = outputs[0].detach()
            parts = target.new_empty((self.size(), *target.shape))
            if self.rank() == opts.rootRank:
                torch.stack([part.detach() for part in input_lists[0]], out=parts)
            self._broadcast(parts, opts.rootRank)
            target.copy_(parts[self.rank()])
        return self._submit(scatter, outputs, opts)

    def barrier(self, opts):
        return self._submit(self._calls.communicator.barrier, [], opts)

    def _check_parts(self, operation, parts, whole):
        """A list of one tensor for each rank."""
        kind = (whole.shape, whole.dtype)
        if len(parts) != self.size() or any((part.shape, part.dtype) != kind for part in parts):
            raise hora.InvalidArgumentError(
                f"{operation}: give a list of {self.size()} tensors of {whole.dtype} and shape {tuple(whole.shape)}, "
                f"one for each rank; these are {[(part.dtype, tuple(part.shape)) for part in parts]}")

    def _submit(self, function, result, opts):
        self._submitted += 1
        return self._calls.submit(function, result, at_once=not opts.asyncOp)

    def _reduce(self, tensors, op, is_mean):
        for tensor in tensors:
            if op.op == ReduceOp.PREMUL_SUM:
                tensor.detach().mul_(op.factor)
            operation = _operation(op, tensor.dtype)
            if is_mean and operation == hora.ReduceOp.SUM and tensor.is_floating_point():
                # Not a sum that is scaled afterwards: parts of one interrupted by a death have other contributors.
                self._in_place(tensor, lambda one: self._calls.communicator.allreduce(one, op=hora.ReduceOp.AVERAGE))
                tensor.detach().mul_(self.size())
            else:
                self._in_place(tensor, lambda one: self._calls.communicator.allreduce(one, op=operation))

    def _broadcast(self, tensor, root, may_differ=False):
        """`may_differ`: any rank's tensor is as good as that of a root that has died."""
        communicator, seen, place = self._calls.communicator, self._founding, root
        while True:
            try:
                return self._in_place(tensor, lambda one: communicator.broadcast(one, place, seen))
            except hora.PeerFailedError as error:  # all ranks have it
                if not may_differ or self._founding.members[root] in communicator.view.members:
                    raise hora.PeerFailedError(f"{error}; the root is rank {root} of the group, "
                                               f"{self._living()}") from None
                seen, place = communicator.view, 0

    def _allgather(self, source, target):
        source = _fit_for_allgather(source.detach().contiguous(), target, self.rank())
        try:
            self._in_place(target, lambda one: self._calls.communicator.allgather(source, one, self._founding))
        except hora.PeerFailedError as error:
            raise hora.PeerFailedError(f"{error}; {self._living()}") from None

    def _allgather_into(self, parts, source):
        gathered = source.new_empty((self.size(), *source.shape))
        self._allgather(source, gathered)
        for part, value in zip(parts, gathered):
            part.detach().copy_(value)

    def _living(self):
        members = self._calls.communicator.view.members
        founders = enumerate(self._founding.members)
        return f"alive are ranks {[rank for rank, member in founders if member in members]} of the group"

    @staticmethod
    def _in_place(tensor, function):
        tensor = tensor.detach()
        used = tensor.contiguous()
        function(used)
        if used.data_ptr() != tensor.data_ptr():
            tensor.copy_(used)


def _operation(op, dtype):
    known = _OF_TRUTH if dtype == torch.bool and op.op in _OF_TRUTH else _OPERATIONS
    if op.op not in known:
        raise hora.UnsupportedError(f"allreduce: hora has no {op.op.name} of {dtype}")
    return known[op.op]


def _fit_for_allgather(source, target, rank):
    """hora gathers from memory that is apart from the target, or from where the rank's own part goes in it."""
    begin, end = target.data_ptr(), target.data_ptr() + target.nbytes
    overlaps = source.data_ptr() < end and begin < source.data_ptr() + source.nbytes
    return source.clone() if overlaps and source.data_ptr() != begin + rank * source.nbytes else source


def _module_of(frame):
    return frame.f_globals.get("__name__", "") if frame is not None else None


def _is_divided_by_size(frame):
    """Whether a sum, asked for by the code of `frame`, is made an average by a division by the size of the group.

    The reducer of DistributedDataParallel calls from C++, in the backward pass or at its end; torch's hooks for it and
    torch's averaging of models call all_reduce().
    """
    module = _module_of(frame)
    if module not in _C10D:
        return module in (None, "torch.autograd.graph", _DDP)
    while module in _C10D:
        frame = frame.f_back
        module = _module_of(frame)
    return module is not None and module.startswith(_AVERAGING)
