"""hora for PyTorch, with Horovod's names.

    import hora.torch as hvd

    hvd.init()                                             # `hora run -np 4 --min-np 1 python train.py`
    optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)

The loop stays as it is. When a rank is killed it goes on, on the others, without a restart or a lost step.

Before a checkpoint stands hvd.flush(): what is written then cannot be undone by a death.

Of Horovod's names these are missing: alltoall, reducescatter and grouped_reducescatter, grouped_allgather,
sparse_allreduce_async, join, process sets (ProcessSet, global_process_set, add_process_set, remove_process_set,
process_set=), DistributedOptimizer's groups= and num_groups=, broadcast_optimizer_state's model=, init's comm=, Adasum,
SyncBatchNorm, timelines (start_timeline, stop_timeline), what asks for the build (mpi_enabled, nccl_built, ...), and
hvd.elastic, which the loop above does not need. Tensors lie in memory of the host.
"""

from hora import HoraError, MismatchError, PeerFailedError, TimedOutError
from hora.torch.collectives import (
    allgather,
    allgather_async,
    allreduce,
    allreduce_,
    allreduce_async,
    allreduce_async_,
    broadcast,
    broadcast_,
    broadcast_async,
    broadcast_async_,
    grouped_allreduce,
    grouped_allreduce_,
    grouped_allreduce_async,
    grouped_allreduce_async_,
)
from hora.torch.compression import Compression
from hora.torch.ddp import ddp_hook
from hora.torch.operations import Average, Max, Min, Product, Sum, poll, synchronize
from hora.torch.optimizer import DistributedOptimizer
from hora.torch.parameters import (
    allgather_object,
    broadcast_object,
    broadcast_optimizer_state,
    broadcast_parameters,
    register_state,
)
from hora.torch.world import (
    barrier,
    communicator,
    cross_rank,
    cross_size,
    flush,
    init,
    is_initialized,
    local_rank,
    local_size,
    observing,
    rank,
    shutdown,
    size,
    step,
)

HorovodInternalError = HoraError  # as Horovod calls it
