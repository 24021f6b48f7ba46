#!/usr/bin/env python3
"""Times hora's allreduce between two hosts beside what the link carries (iperf3, both ways at once) and Open MPI over
TCP, all in one run. The hosts are network namespaces on one bridge; needs root, iperf3 and sshd.

usage: perf/compare_hosts.py [--rounds K] [-b 64M] [-e 64M] [-f 4] [--hora PROGRAM] [PEERS]
PEERS is the folder that perf/peers/install.sh filled (default: build/peers); without Open MPI in it, hora and the link.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

from compare import ROOT, run, size

sys.path.insert(0, os.path.join(ROOT, "examples"))
import namespaces  # noqa: E402

ROOT = pathlib.Path(ROOT)
LINK_SECONDS = 3
TIMEOUT_S = 120


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="?", type=pathlib.Path, default=ROOT / "build" / "peers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-b", dest="least", type=size, default=64 << 20)
    parser.add_argument("-e", dest="most", type=size, default=64 << 20)
    parser.add_argument("-f", dest="factor", type=int, default=4)
    parser.add_argument("--hora", type=pathlib.Path, default=ROOT / "build" / "release" / "hora")
    return parser.parse_args()


def link_rate(hosts):
    """Bytes a second in the slower direction, with both directions busy."""
    enter = ["ip", "netns", "exec"]
    server = subprocess.Popen([*enter, hosts.names[0], "iperf3", "-s", "-1", "--forceflush"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
    try:
        while "listening" not in server.stdout.readline():
            if server.poll() is not None:
                raise RuntimeError("iperf3 -s ended")
        out = run([*enter, hosts.names[1], "iperf3", "-c", hosts.addresses[0], "--bidir", "-J", "-t",
                   str(LINK_SECONDS)], {}, TIMEOUT_S)
        server.wait(TIMEOUT_S)
    finally:
        server.kill()
    end = json.loads(out)["end"]
    return min(end["sum_received"]["bits_per_second"], end["sum_received_bidir_reverse"]["bits_per_second"]) / 8


def sweep_of_hora(arguments, hosts):
    """Bytes to microseconds."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "hora.json"
        perf = [arguments.hora, "perf", "allreduce", "-b", arguments.least, "-e", arguments.most, "-f",
                arguments.factor, "--placement", "out-of-place", "--json", path]
        run(hosts.command(arguments.hora, "run", "-np", 2, "--hosts", ",".join(f"{one}:1" for one in hosts.addresses),
                          "--ssh", hosts.shell, *perf), {}, TIMEOUT_S)
        return {row["bytes"]: row["time_us"]["p50"] for row in json.loads(path.read_text())["rows"]}


def sweep_of_openmpi(arguments, hosts):
    prefix = arguments.peers / "openmpi"
    words = [prefix / "bin" / "mpirun", "--prefix", prefix, "-np", 2, "--host",
             ",".join(f"{one}:1" for one in hosts.addresses), "--prtemca", "plm_ssh_agent", hosts.shell, "--mca", "pml",
             "ob1", "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "eth0", "--bind-to", "none",
             arguments.peers / "mpi_allreduce.openmpi", arguments.least, arguments.most, arguments.factor,
             len(os.sched_getaffinity(0))]
    out = run(hosts.command(*words), {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}, TIMEOUT_S)
    rows = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    if sum(row["wrong"] for row in rows):
        raise RuntimeError("Open MPI gave wrong results")
    return {row["bytes"]: row["p50_us"] for row in rows}


def text_of(values, scale=1.0):
    return f"{statistics.median(values) * scale:.2f} ({min(values) * scale:.2f} to {max(values) * scale:.2f})"


def main():
    arguments = parse_arguments()
    reason = namespaces.missing() or (None if shutil.which("iperf3") else "no iperf3 here (apt-get install iperf3)")
    if reason or not os.access(arguments.hora, os.X_OK):
        print(f"compare_hosts.py: {reason or f'{arguments.hora} is missing: make build'}", file=sys.stderr)
        return 2
    programs = {"hora": sweep_of_hora}
    if os.access(arguments.peers / "mpi_allreduce.openmpi", os.X_OK):
        programs["Open MPI over TCP"] = sweep_of_openmpi
    rates, times = [], {name: {} for name in programs}
    try:
        with namespaces.Namespaces(2) as hosts:
            for _ in range(arguments.rounds):
                rates.append(link_rate(hosts))
                for name, sweep in programs.items():
                    for count, time_us in sweep(arguments, hosts).items():
                        times[name].setdefault(count, []).append(time_us)
    except (RuntimeError, subprocess.SubprocessError, OSError, KeyError, ValueError) as error:
        print(f"compare_hosts.py: {error}", file=sys.stderr)
        return 1
    print(f"# allreduce of float32 sums, 2 hosts with one rank each (network namespaces), median of {arguments.rounds} "
          "rounds (smallest to largest)")
    print(f"link, each way with both busy (iperf3 --bidir): {text_of(rates, 1e-9)} GB/s")
    rate = statistics.median(rates)
    for count in sorted(times["hora"]):
        for name in programs:
            values = times[name][count]
            # Between two ranks each sends and receives the whole once.
            share = count / (statistics.median(values) * 1e-6) / rate
            print(f"{count:>10} B  {name:<18} {text_of(values, 1e-3):>28} ms  {share:6.0%} of the link")
    return 0


if __name__ == "__main__":
    sys.exit(main())
