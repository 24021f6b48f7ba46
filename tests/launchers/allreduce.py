"""The program that must say the same whoever starts it: one operation of each kind, and what came of it.

Rank 0 says it. allreduce.cc is its twin. This one asks the backend of torch.distributed, and hora itself for what that
cannot tell.
"""

import sys

import torch
import torch.distributed as dist

COUNT = 1000


def say(what, values):
    print(f"{what}: first {values[0]:.1f}, last {values[-1]:.1f}, total {values.double().sum():.1f}")


def gather(value):
    everything = torch.empty(dist.get_world_size(), dtype=torch.int32)
    dist.all_gather_into_tensor(everything, torch.tensor([value], dtype=torch.int32))
    return everything.tolist()


def line(values):
    return " ".join(map(str, values))


def main():
    dist.init_process_group("hora")
    import hora.torch as hvd

    rank, size = dist.get_rank(), dist.get_world_size()
    own = (rank + 1) * (1 + torch.arange(COUNT) % 97).float()
    total, greatest, average, sent = (own.clone() for _ in range(4))
    dist.all_reduce(total)
    dist.all_reduce(greatest, dist.ReduceOp.MAX)
    pending = dist.all_reduce(average, dist.ReduceOp.AVG, async_op=True)
    pending.wait()
    dist.broadcast(sent, size - 1)
    ranks, local_ranks, local_sizes = (gather(value) for value in (hvd.rank(), hvd.local_rank(), hvd.local_size()))
    if rank == 0:
        print(f"{size} ranks")
        for what, values in {"sum": total, "max": greatest, "average": average, "broadcast": sent}.items():
            say(what, values)
        # Local ranks in whatever order the launcher gave them.
        print(f"ranks: {line(ranks)}\nlocal ranks: {line(sorted(local_ranks))}\nlocal sizes: {line(local_sizes)}")
    dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
