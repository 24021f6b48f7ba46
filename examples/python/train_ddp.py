"""Trains a small network on handwritten digits with DistributedDataParallel; goes on when ranks are killed.

    hora run -np 2 --min-np 1 python examples/python/train_ddp.py
    mpirun --enable-recovery -np 2 python examples/python/train_ddp.py     (Open MPI 4; 5: --with-ft ulfm)
    torchrun --nproc-per-node 2 examples/python/train_ddp.py               (ends all ranks when one dies)

All that is hora's in it is a name. PyTorch goes on to count a rank that has died, so its share of each batch is left
out, and the averages are over the ranks that are left.
"""

import argparse
import hashlib
import sys

import torch
import torch.distributed as dist

import digits

BATCH = 60


def is_equal_everywhere(model):
    content = b"".join(p.detach().numpy().tobytes() for p in model.parameters())
    digest = torch.frombuffer(bytearray(hashlib.sha256(content).digest()), dtype=torch.uint8)
    least, greatest = digest.clone(), digest.clone()
    dist.all_reduce(least, dist.ReduceOp.MIN)
    dist.all_reduce(greatest, dist.ReduceOp.MAX)
    return torch.equal(least, greatest)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=8)
    arguments = parser.parse_args()

    dist.init_process_group("hora")
    torch.set_num_threads(1)
    torch.manual_seed(dist.get_rank())
    (images, labels), test = digits.load()
    model = torch.nn.parallel.DistributedDataParallel(digits.network())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    steps = 0
    for epoch in range(arguments.epochs):
        for batch in digits.batches(epoch, BATCH):
            own = batch[dist.get_rank()::dist.get_world_size()]
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images[own]), labels[own]).backward()
            optimizer.step()
            steps += 1

    alive = torch.ones(1, dtype=torch.int64)
    dist.all_reduce(alive)
    equal = is_equal_everywhere(model)
    first = torch.tensor([dist.get_rank()])
    dist.all_reduce(first, dist.ReduceOp.MIN)  # rank 0 may have died
    if first == dist.get_rank():
        print(f"{steps} steps, {alive.item()} of {dist.get_world_size()} ranks at the end, parameters "
              f"{'' if equal else 'NOT '}equal on all of them, test accuracy "
              f"{100 * digits.accuracy(model.module, *test):.1f} %")
    dist.destroy_process_group()
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
