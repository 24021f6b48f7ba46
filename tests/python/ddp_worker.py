"""Trains with DistributedDataParallel while ranks die, and records what the parameters are after each step.

The last rank alive by number trains the same model alone, on the batches of all ranks that were alive in each step, and
compares: averages must be over the living, and none of their gradients may be missing.
"""

import argparse
import hashlib
import os
import pathlib
import sys

import torch
import torch.distributed as dist

import hora

STEPS = 60


def announce(folder, word, rank):
    with open(folder / "ready", "w") as file:
        file.write(f"{word} {rank} {os.getpid()}\n")


def make_model():
    torch.manual_seed(5)
    return torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.BatchNorm1d(64), torch.nn.ReLU(),
                               torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))


def loss_of(model, step, rank):
    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(1000 * step + rank))
    return (model(x) - x.sum(1, keepdim=True)).square().mean()


def content(model):
    return b"".join(p.detach().numpy().tobytes() for p in model.parameters())


def alone(living):
    """The parameters after the same steps in one process. `living`: of each step, the ranks that took part."""
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for step, ranks in enumerate(living):
        optimizer.zero_grad()
        for rank in ranks:
            (loss_of(model, step, rank) / len(ranks)).backward()
        optimizer.step()
    return model


def check_calls_that_need_the_dead(dead, size, alive):
    """They fail on all ranks alike, and what comes after them does not."""
    tensor = torch.ones(2)
    for call, *rest in ((dist.broadcast, tensor, dead), (dist.all_gather, [torch.empty(2)] * size, tensor)):
        try:
            call(*rest)
            raise AssertionError(f"{call} raised nothing")
        except hora.PeerFailedError as error:
            assert f"alive are ranks {alive}" in str(error), error
    dist.all_reduce(tensor)
    assert tensor.tolist() == [len(alive)] * 2, tensor


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--backend", default="hora", help="gloo: with ddp_hook, and hora beside it")
    parser.add_argument("--hook", action="store_true", help="ddp_hook")
    parser.add_argument("--victims", type=int, nargs="*", default=[])
    parser.add_argument("--die-at", type=int, default=20, help="the first dies before this step, then one a step")
    parser.add_argument("--amid", action="store_true", help="they die in the step, between two gradients")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    dist.init_process_group(arguments.backend)
    import hora.torch as hvd
    from hora.torch import world

    hvd.init()
    rank, size = dist.get_rank(), dist.get_world_size()
    model = make_model()
    # gloo does not outlive a death, so nothing may be left to it.
    options = {"forward_sync_buffers": False} if arguments.backend == "gloo" else {}
    model = torch.nn.parallel.DistributedDataParallel(model, bucket_cap_mb=0.001, **options)
    if arguments.hook:
        model.register_comm_hook(None, hvd.ddp_hook)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    deaths = {arguments.die_at + i: victim for i, victim in enumerate(arguments.victims)}
    now = 0
    if arguments.amid:
        def die(_):
            if deaths.get(now) == rank:
                os.kill(os.getpid(), 9)

        model.module[3].weight.register_hook(die)  # while the gradients of the last layers are on their way

    living, alive = [], list(range(size))
    with open(arguments.folder / f"records-{rank}", "w") as records:
        for now in range(STEPS):
            if now in deaths:
                if rank == deaths[now] and not arguments.amid:
                    world.communicator().flush()  # else the last step may be the survivors' alone as well
                    os.kill(os.getpid(), 9)
                alive.remove(deaths[now])
            optimizer.zero_grad()
            loss = loss_of(model, now, rank)
            loss.backward()
            optimizer.step()
            living.append(list(alive))
            records.write(f"{now + 1} {hashlib.sha256(content(model)).hexdigest()} {hvd.size()}\n")
            records.flush()
    if rank == alive[-1] and not arguments.amid:
        expected = alone(living)
        for mine, other in zip(model.parameters(), expected.parameters()):
            torch.testing.assert_close(mine.detach(), other.detach(), rtol=1e-3, atol=1e-4)
        print(f"as alone on the batches of the living, loss {loss.item():.4f}", flush=True)
    if deaths and arguments.backend == "hora":
        check_calls_that_need_the_dead(arguments.victims[0], size, alive)
    announce(arguments.folder, "end", rank)
    dist.destroy_process_group()
    hvd.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
