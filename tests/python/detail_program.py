"""A rank of a job in which torch compares all calls of ranks (TORCH_DISTRIBUTED_DEBUG=DETAIL)."""

import torch
import torch.distributed as dist

dist.init_process_group("hora")
size = dist.get_world_size()
assert dist.get_debug_level() == dist.DebugLevel.DETAIL
tensor = torch.ones(3)
dist.all_reduce(tensor)
assert tensor.tolist() == [size] * 3
dist.broadcast(tensor, 1)
parts = [torch.empty(3) for _ in range(size)]
dist.all_gather(parts, tensor)
things = [None] * size
dist.all_gather_object(things, dist.get_rank())
assert things == list(range(size))
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 1))
model(torch.full((1, 2), 1.0 + dist.get_rank())).sum().backward()
assert model.module.weight.grad.tolist() == [[1.5, 1.5]]
try:
    dist.all_reduce(torch.ones(1 + dist.get_rank()))
    raise AssertionError("a disagreement was not told")
except RuntimeError as error:
    assert "shape" in str(error).lower(), error
dist.barrier()
dist.destroy_process_group()
print("as many as ranks")
