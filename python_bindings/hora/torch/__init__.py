"""hora for PyTorch, with Horovod's names.

    import hora.torch as hvd

    hvd.init()                                             # `hora run -np 4 --min-np 1 python train.py`
    optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)

The loop stays as it is. When a rank is killed it goes on, on the others, without a restart or a lost step.

Of Horovod's names these are missing: alltoall, reducescatter, join, process sets (ProcessSet, add_process_set,
process_set=), DistributedOptimizer's groups= and num_groups=, SyncBatchNorm, Adasum, and hvd.elastic, which the loop
above does not need. Tensors lie in memory of the host.
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
