"""Gradients of DistributedDataParallel over hora, whatever the process group is."""

import hora
from hora.torch import world


def ddp_hook(state, bucket):
    """For DistributedDataParallel: averages gradients over the ranks that are alive.

        model = DistributedDataParallel(model)
        model.register_comm_hook(None, hora.torch.ddp_hook)

    It uses the job of hvd.init() or init_process_group("hora"). `state` has no meaning.
    """
    buffer = bucket.buffer()
    communicator = world.communicator()
    work = world.ordered().submit(lambda: communicator.allreduce(buffer, op=hora.ReduceOp.AVERAGE), buffer)
    return work.get_future()
