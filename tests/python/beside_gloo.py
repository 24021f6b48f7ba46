"""For checks of hora.torch on every rank of a job, against what gloo gives in the same processes."""

import os
import tempfile

import torch
import torch.distributed as gloo

import hora.torch as hvd
from checks import expect, raised, run_all

OPERATIONS = {hvd.Sum: gloo.ReduceOp.SUM, hvd.Min: gloo.ReduceOp.MIN, hvd.Max: gloo.ReduceOp.MAX,
              hvd.Product: gloo.ReduceOp.PRODUCT}
TYPES = (torch.float32, torch.float64, torch.int32, torch.int64, torch.uint8, torch.int8)


def own(shape, dtype=torch.float32, seed=0):
    """Other values on each rank, the same in each run."""
    generator = torch.Generator().manual_seed(100 * seed + hvd.rank())
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    return torch.randint(1, 4, shape, generator=generator).to(dtype)


def by_gloo(tensor, op):
    result = tensor.clone()
    gloo.all_reduce(result, OPERATIONS[op])
    return result


def gathered_by_gloo(tensor):
    parts = [None] * hvd.size()
    gloo.all_gather_object(parts, tensor)
    return parts


def close(left, right, tolerance=1e-5):
    return left.dtype == right.dtype and torch.allclose(left.double(), right.double(), rtol=tolerance, atol=tolerance)


def main():
    hvd.init()
    path = hvd.broadcast_object(tempfile.mktemp(prefix="hora-gloo-"))
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    gloo.init_process_group("gloo", init_method=f"file://{path}", rank=hvd.rank(), world_size=hvd.size())
    torch.set_num_threads(1)
    status = run_all(hvd.size())
    gloo.destroy_process_group()
    hvd.shutdown()
    expect("init" in raised(ValueError, hvd.rank))
    return status
