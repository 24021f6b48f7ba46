"""Trains with DistributedOptimizer, and records what the parameters are after each step.

A rank stops at the gate before the steps that it is told to, so that the test can kill one there or behind it.
"""

import argparse
import hashlib
import os
import pathlib
import sys

import torch

import hora.torch as hvd

STEPS = 60


def announce(folder, word, rank):
    if not (folder / "ready").exists():
        return  # nobody listens
    with open(folder / "ready", "w") as file:
        file.write(f"{word} {rank} {os.getpid()}\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--gate", type=int, help="the step before which all wait until the test lets them go on")
    parser.add_argument("--die-at", type=int, help="the step in which --victim kills itself, between two gradients")
    parser.add_argument("--victim", type=int)
    parser.add_argument("--elastic", action="store_true")
    arguments = parser.parse_args()

    hvd.init()
    torch.set_num_threads(1)
    joined = hvd.observing()
    founding = None if joined else hvd.rank()
    torch.manual_seed(hvd.rank())
    model = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64), torch.nn.ReLU(),
                                torch.nn.Linear(64, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    done = torch.zeros(1, dtype=torch.int64)
    picture = torch.empty(2, 3, 4, 4, memory_format=torch.channels_last).zero_()  # not in the order of its dimensions
    if arguments.elastic:
        check_calls_before_the_first_step(optimizer)
        hvd.register_state("model", model)
        hvd.register_state("optimizer", optimizer)
        hvd.register_state("done", done)
        hvd.register_state("picture", picture)
        hvd.step()
    if founding == arguments.victim and founding is not None:
        # The hook runs when a gradient in the middle has been made, while the others' are on their way.
        model[2].weight.register_post_accumulate_grad_hook(lambda _: die(arguments, done))

    steps_as_member = 0  # of a newcomer
    name = f"newcomer-{os.getpid()}" if joined else f"records-{founding}"
    with open(arguments.folder / name, "w") as records:
        while done < STEPS or arguments.elastic and waits_for_newcomer(arguments):
            if int(done) == arguments.gate and not joined:
                announce(arguments.folder, "gate", founding)
                with open(arguments.folder / "gate", "rb", buffering=0) as gate:
                    gate.read(1)
            generator = torch.Generator().manual_seed(1000 * int(done) + hvd.rank())
            x = torch.randn(16, 8, generator=generator)
            optimizer.zero_grad()
            if not hvd.observing():
                (model(x) - x.sum(1, keepdim=True)).square().mean().backward()
            optimizer.step()
            done += 1
            picture += torch.arange(96).reshape(2, 3, 4, 4) * done
            content = b"".join(p.detach().numpy().tobytes() for p in [*model.parameters(), picture])
            entered = not hvd.observing()
            records.write(f"{int(done)} {hashlib.sha256(content).hexdigest()} {hvd.size()} {int(entered)}\n")
            records.flush()
            if arguments.elastic:
                hvd.step()
                steps_as_member += joined and not hvd.observing()
                if steps_as_member == 3:
                    (arguments.folder / "entered").touch()
    if founding is not None:
        announce(arguments.folder, "end", founding)
    hvd.shutdown()
    return 0


def check_calls_before_the_first_step(optimizer):
    """A newcomer's return what they are given, as if all ranks had given the same."""
    assert hvd.allreduce(torch.tensor(7)).item() == 7
    assert hvd.allreduce(torch.full((1000,), 0.5)).tolist() == [0.5] * 1000
    assert hvd.allgather(torch.tensor([3, 4])).tolist() == [3, 4] * hvd.size()
    assert hvd.allgather_object("one") == ["one"] * hvd.size()
    assert [hvd.broadcast_object({"root": root}, root) for root in (0, 1)] == [{"root": 0}, {"root": 1}]
    hvd.broadcast_optimizer_state(optimizer, root_rank=1)


def waits_for_newcomer(arguments):
    """Another step is made until the newcomer is in; all ranks decide alike."""
    seen = torch.tensor([(arguments.folder / "entered").exists()], dtype=torch.uint8)
    return not hvd.allreduce(seen, op=hvd.Max, name="entered").item()


def die(arguments, done):
    if int(done) == arguments.die_at:
        os.kill(os.getpid(), 9)


if __name__ == "__main__":
    sys.exit(main())
