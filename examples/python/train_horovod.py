"""Trains a small network on handwritten digits, data-parallel, in Horovod's style; goes on when ranks are killed.

    hora run -np 2 --min-np 1 python examples/python/train_horovod.py
    hora run -np 4 --min-np 2 --max-restarts 2 python examples/python/train_horovod.py --elastic

Nothing handles a failure: the averages are over the ranks that are left, and each batch is shared out by the rank and
size of the moment. With --elastic, newcomers that `hora run` starts for the dead receive the state and enter between
two steps.
"""

import argparse
import hashlib
import sys

import torch

import digits
import hora.torch as hvd

BATCH = 60


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--elastic", action="store_true", help="let newcomers in")
    arguments = parser.parse_args()

    hvd.init()
    torch.set_num_threads(1)
    torch.manual_seed(hvd.rank())
    (images, labels), test = digits.load()
    model = digits.network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    steps_done = torch.zeros(1, dtype=torch.int64)
    if arguments.elastic:
        hvd.register_state("model", model)
        hvd.register_state("optimizer", optimizer)
        hvd.register_state("steps", steps_done)
        hvd.step()  # a newcomer has the others' state from here on

    schedule = [batch for epoch in range(arguments.epochs) for batch in digits.batches(epoch, BATCH)]
    while steps_done < len(schedule):
        own = schedule[int(steps_done)][hvd.rank()::hvd.size()]
        optimizer.zero_grad()
        if not hvd.observing():  # a newcomer that catches up need not compute
            torch.nn.functional.cross_entropy(model(images[own]), labels[own]).backward()
        optimizer.step()
        steps_done += 1
        if arguments.elastic:
            hvd.step()

    content = b"".join(p.detach().numpy().tobytes() for p in model.parameters())
    hashes = hvd.allgather_object(hashlib.sha256(content).hexdigest())
    equal = len(set(hashes)) == 1
    if hvd.rank() == 0:
        hvd.flush()  # from here on no failure can make it not have happened: so too before a checkpoint is written
        print(f"{len(schedule)} steps, {hvd.size()} ranks at the end, parameters {'' if equal else 'NOT '}equal on all "
              f"of them, test accuracy {100 * digits.accuracy(model, *test):.1f} %")
    hvd.shutdown()
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
