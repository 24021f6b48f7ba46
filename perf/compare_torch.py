#!/usr/bin/env python3
"""Times torch.distributed.all_reduce over hora beside gloo, and hora.torch's own call, in the same processes.

A rank of whatever launcher started it: hora run -np 2 python perf/compare_torch.py [-b 4] [-e 64M] [-f 4] [--calls 200]

Calls take turns, one each, all ranks at a barrier before every one; a time is that of the slowest rank. Rank 0 prints
the median, with the 5th and 95th percentile, in microseconds. Exit status 1 where a result is wrong.
"""

import argparse
import statistics
import sys
import time

import torch
import torch.distributed as dist

import hora.torch as hvd
from compare import size

SECONDS_PER_SIZE = 4


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-b", dest="least", type=size, default=4, help="bytes of the smallest tensor")
    parser.add_argument("-e", dest="most", type=size, default=64 << 20, help="bytes of the largest")
    parser.add_argument("-f", dest="factor", type=int, default=4, help="from one size to the next")
    parser.add_argument("--calls", type=int, default=200, help="of each kind and size, at most")
    arguments = parser.parse_args()
    if arguments.factor < 2 or arguments.least < 4 or arguments.least % 4 or arguments.calls < 3:
        parser.error("-f is at least 2, -b a multiple of 4, --calls at least 3")
    return arguments


def time_call(call, tensor):
    tensor.fill_(dist.get_rank() + 1)
    dist.barrier()
    began = time.perf_counter()
    call(tensor)
    taken = time.perf_counter() - began
    expected = dist.get_world_size() * (dist.get_world_size() + 1) / 2
    return taken, bool((tensor[0] != expected) | (tensor[-1] != expected))


def measure(ways, count, calls):
    """Name to the times of its calls in microseconds, of the slowest rank each; and how many results were wrong."""
    tensor = torch.empty(count)
    warm = torch.tensor([max(time_call(call, tensor)[0] for _ in range(2)) for call in ways.values()])
    dist.all_reduce(warm, op=dist.ReduceOp.MAX)
    turns = int(min(calls, max(3, SECONDS_PER_SIZE / warm.sum().item())))
    times, wrong = torch.empty(len(ways), turns, dtype=torch.float64), torch.zeros(1)
    for turn in range(turns):
        for way, call in enumerate(ways.values()):
            times[way, turn], failed = time_call(call, tensor)
            wrong += failed
    dist.all_reduce(times, op=dist.ReduceOp.MAX)
    dist.all_reduce(wrong)
    return {name: [second * 1e6 for second in row] for name, row in zip(ways, times.tolist())}, int(wrong)


def cell(times):
    if len(times) < 20:
        return f"{statistics.median(times):.1f} ({min(times):.1f} to {max(times):.1f})"
    cuts = statistics.quantiles(times, n=20)
    return f"{statistics.median(times):.1f} ({cuts[0]:.1f} to {cuts[-1]:.1f})"


def main():
    arguments = parse_arguments()
    dist.init_process_group("hora")
    gloo = dist.new_group(backend="gloo")
    ways = {"hora": dist.all_reduce,
            "hora.torch": lambda tensor: hvd.allreduce_(tensor, op=hvd.Sum),
            "gloo": lambda tensor: dist.all_reduce(tensor, group=gloo)}
    first = dist.get_rank() == 0
    if first:
        print(f"# all_reduce of float32 sums, {dist.get_world_size()} ranks, torch {torch.__version__}, microseconds: "
              "median (5 to 95 %)")
        print(f"{'bytes':>10} " + " ".join(f"{name:>32}" for name in ways) + f" {'gloo / hora':>12}")
    bytes_now, all_wrong = arguments.least, 0
    while bytes_now <= arguments.most:
        times, wrong = measure(ways, bytes_now // 4, arguments.calls)
        all_wrong += wrong
        if first:
            ratio = statistics.median(times["gloo"]) / statistics.median(times["hora"])
            print(f"{bytes_now:>10} " + " ".join(f"{cell(times[name]):>32}" for name in ways) + f" {ratio:>12.1f}",
                  flush=True)
        bytes_now *= arguments.factor
    dist.destroy_process_group()
    if all_wrong and first:
        print(f"compare_torch.py: {all_wrong} wrong results", file=sys.stderr)
    return 1 if all_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
