#!/usr/bin/env python3
"""Times hora's allreduce beside the MPI libraries that are installed, all in one run on one machine.

Programs take turns, a whole sweep each, for several rounds: what disturbs the machine disturbs all. A number is the
median over rounds of the median of a sweep, with the smallest and the largest. Writes bench.json and bench.html.

usage: perf/compare.py [--np N] [--rounds K] [-b 4] [-e 64M] [-f 4] [--hora PROGRAM] [--out DIR] [PEERS]
PEERS is the folder that perf/peers/install.sh filled (default: build/peers).
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile

import comparison_page

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
PEERS = ("openmpi", "mpich", "impi")
TITLES = {"hora": "hora", "openmpi": "Open MPI", "mpich": "MPICH", "impi": "Intel MPI"}


def size(text):
    factors = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    factor = factors.get(text[-1:].upper(), 1)
    return int(text[:-1] if factor > 1 else text) * factor


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="?", default=os.path.join(ROOT, "build", "peers"))
    parser.add_argument("--np", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-b", dest="least", type=size, default=4)
    parser.add_argument("-e", dest="most", type=size, default=64 << 20)
    parser.add_argument("-f", dest="factor", type=int, default=4)
    parser.add_argument("--hora", default=os.path.join(ROOT, "build", "release", "hora"))
    parser.add_argument("--out", default=os.path.join(ROOT, "build", "bench"))
    parser.add_argument("--timeout", type=int, default=600, help="seconds that one sweep of one program may take")
    arguments = parser.parse_args()
    if arguments.np < 1 or arguments.rounds < 1 or arguments.factor < 2 or arguments.least % 4 or arguments.least < 4:
        parser.error("--np and --rounds are at least 1, -f at least 2, -b a multiple of 4")
    return arguments


def run(words, variables, timeout):
    """Standard output. A program that fails ends the comparison: a table with holes misleads."""
    done = subprocess.run(words, env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          stdin=subprocess.DEVNULL, text=True, timeout=timeout, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def hora_version(program):
    return run([program, "--version"], {}, 60).strip()


def sweep_of_hora(arguments):
    """Bytes to microseconds, and bytes to microseconds of memcpy."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "hora.json")
        run([arguments.hora, "perf", "allreduce", "-np", str(arguments.np), "-b", str(arguments.least), "-e",
             str(arguments.most), "-f", str(arguments.factor), "--placement", "out-of-place", "--json", path], {},
            arguments.timeout)
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
    return ({row["bytes"]: row["time_us"]["p50"] for row in report["rows"]},
            {row["bytes"]: row["p50_us"] for row in report["memcpy"]})


def peer_command(peer, arguments, cpus):
    """(words, variables) that run the peer's program."""
    prefix = os.path.join(arguments.peers, peer)
    sweep = [os.path.join(arguments.peers, f"mpi_allreduce.{peer}"), str(arguments.least), str(arguments.most),
             str(arguments.factor), str(cpus)]
    crowded = arguments.np > cpus
    count = str(arguments.np)
    if peer == "openmpi":
        words = [os.path.join(prefix, "bin", "mpirun"), "-np", count]
        if crowded:
            words += ["--oversubscribe", "--mca", "mpi_yield_when_idle", "1"]
        return words + sweep, {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    if peer == "mpich":
        return [os.path.join(prefix, "bin", "mpiexec"), "-n", count] + sweep, {}
    libraries = os.path.join(prefix, "lib")
    return [os.path.join(prefix, "bin", "mpiexec.hydra"), "-n", count] + sweep, {
        "I_MPI_ROOT": prefix, "FI_PROVIDER_PATH": os.path.join(libraries, "prov"), "LD_LIBRARY_PATH": libraries}


def sweep_of_peer(peer, arguments, cpus):
    words, variables = peer_command(peer, arguments, cpus)
    rows = [json.loads(line) for line in run(words, variables, arguments.timeout).splitlines() if line.startswith("{")]
    if not rows:
        raise RuntimeError(f"{words[0]} printed no rows; perf/peers/install.sh {arguments.peers} builds it anew")
    wrong = sum(row["wrong"] for row in rows)
    if wrong:
        raise RuntimeError(f"{TITLES[peer]} gave {wrong} wrong results")
    return {row["bytes"]: row["p50_us"] for row in rows}


def summary(values):
    return {"median_us": statistics.median(values), "min_us": min(values), "max_us": max(values)}


def measure(arguments, peers, cpus):
    """Name to bytes to the times of all rounds; memcpy is one of the names."""
    times = {name: {} for name in ["hora", *peers, "memcpy"]}

    def keep(name, sweep):
        for count, time_us in sweep.items():
            times[name].setdefault(count, []).append(time_us)

    names = ["hora", *peers]
    for turn in range(arguments.rounds):
        # Who goes first changes, so that nobody always follows the same neighbour.
        for name in names[turn % len(names):] + names[:turn % len(names)]:
            if sys.stderr.isatty():
                print(f"\r\033[Kround {turn + 1} of {arguments.rounds}: {TITLES[name]}", end="", file=sys.stderr,
                      flush=True)
            if name == "hora":
                calls, copies = sweep_of_hora(arguments)
                keep("hora", calls)
                keep("memcpy", copies)
            else:
                keep(name, sweep_of_peer(name, arguments, cpus))
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    return times


def report_of(arguments, peers, times, cpus):
    sizes = sorted(times["hora"])
    return {
        "version": hora_version(arguments.hora), "op": "allreduce", "dtype": "float32", "redop": "sum",
        "np": arguments.np, "usable_cpus": cpus, "rounds": arguments.rounds, "host": platform.node(),
        "machine": comparison_page.processor(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "programs": [{"name": name, "title": TITLES.get(name, name)} for name in ["hora", *peers]],
        "rows": [{"bytes": count, **{name: summary(times[name][count]) for name in times if count in times[name]}}
                 for count in sizes]}


def print_table(report):
    names = [program["name"] for program in report["programs"]]
    titles = [program["title"] for program in report["programs"]]
    print(f"# allreduce of float32 sums, {report['np']} ranks on {report['usable_cpus']} cpus ({report['machine']}), "
          f"{report['version']}, microseconds: median of {report['rounds']} rounds (smallest to largest)")
    print(f"{'bytes':>10} " + " ".join(f"{title:>32}" for title in [*titles, "memcpy by all"]) + "   best peer / hora")
    for row in report["rows"]:
        cells = []
        for name in [*names, "memcpy"]:
            cell = row.get(name)
            cells.append("-" if cell is None else
                         f"{cell['median_us']:.2f} ({cell['min_us']:.2f} to {cell['max_us']:.2f})")
        peers = [row[name]["median_us"] for name in names[1:] if name in row]
        ratio = f"{min(peers) / row['hora']['median_us']:.2f}" if peers else "-"
        print(f"{row['bytes']:>10} " + " ".join(f"{cell:>32}" for cell in cells) + f" {ratio:>18}")


def main():
    arguments = parse_arguments()
    if not os.access(arguments.hora, os.X_OK):
        print(f"compare.py: {arguments.hora} is missing: make build", file=sys.stderr)
        return 2
    cpus = len(os.sched_getaffinity(0))
    peers = []
    for peer in PEERS:
        if os.access(os.path.join(arguments.peers, f"mpi_allreduce.{peer}"), os.X_OK):
            peers.append(peer)
        else:
            print(f"{TITLES[peer]} was not found in {arguments.peers}; perf/peers/install.sh {arguments.peers} {peer} "
                  "installs it", file=sys.stderr)
    try:
        report = report_of(arguments, peers, measure(arguments, peers, cpus), cpus)
    except (RuntimeError, subprocess.TimeoutExpired, OSError) as error:
        print(f"compare.py: {error}", file=sys.stderr)
        return 1
    print_table(report)
    os.makedirs(arguments.out, exist_ok=True)
    with open(os.path.join(arguments.out, "bench.json"), "w", encoding="utf-8") as file:
        json.dump(report, file, indent=2)
        file.write("\n")
    with open(os.path.join(arguments.out, "bench.html"), "w", encoding="utf-8") as file:
        file.write(comparison_page.page_of(report))
    print(f"# written to {arguments.out}: bench.json, bench.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
