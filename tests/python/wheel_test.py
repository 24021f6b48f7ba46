#!/usr/bin/env python3
"""What is in the wheel, what it needs of the system, and that it works where it is installed."""

import json
import pathlib
import re
import subprocess
import tempfile
import unittest
import zipfile

import environment
import report

BUILD = report.build_directory()
# manylinux's notion of what every system has, less what hora does not need.
USUAL = re.compile(r"(?:libc|libm|libgcc_s|libstdc\+\+|ld-linux.*)\.so")
VERSIONED = re.compile(r"(?:GLIBC|GLIBCXX|CXXABI|GCC)_")


def run(*command):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=300)
    if done.returncode != 0:
        raise AssertionError(f"{command}: status {done.returncode}\n{done.stdout}")
    return done.stdout


class Wheel(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        environment.require()
        cls.folder = tempfile.TemporaryDirectory(prefix="hora-wheel-")
        cls.addClassCleanup(cls.folder.cleanup)
        with zipfile.ZipFile(environment.wheel(BUILD)) as archive:
            cls.names = archive.namelist()
            archive.extractall(cls.folder.name)

    def find(self, pattern):
        names = [name for name in self.names if re.search(pattern, name)]
        self.assertEqual(len(names), 1, (pattern, self.names))
        return f"{self.folder.name}/{names[0]}"

    def binaries(self):
        return [self.find(pattern) for pattern in
                (r"^hora/_core\..*\.so$", r"^hora/libhora\.so\.\d+\.\d+$", r"\.data/scripts/hora$")]

    def test_holds_module_library_tool_and_types(self):
        self.binaries()
        self.find(r"^hora/_core\.pyi$")
        self.find(r"^hora/py\.typed$")
        self.find(r"^hora/torch/__init__\.py$")
        self.assertEqual([name for name in self.names if re.search(r"\.(?:cc|h|hpp|cmake)$|CMakeLists", name)], [])

    def test_needs_only_the_system_and_itself(self):
        own = {pathlib.PurePath(name).name for name in self.names if "/libhora.so." in name}
        for binary in self.binaries():
            dynamic = run("readelf", "-d", binary)
            needed = set(re.findall(r"\(NEEDED\).*\[(.*?)\]", dynamic))
            self.assertEqual({name for name in needed - own if not USUAL.match(name)}, set(), binary)
            for path in re.findall(r"\((?:RPATH|RUNPATH)\).*\[(.*?)\]", dynamic):
                self.assertEqual(path, "$ORIGIN", binary)

    def test_undefined_symbols_are_those_of_glibc_libstdcxx_python_and_hora(self):
        for binary in self.binaries():
            undefined = re.findall(r"\bUND (\S+)", run("readelf", "-W", "--dyn-syms", binary))
            names = [name for name in undefined if not VERSIONED.search(name.partition("@")[2])]
            if "/_core." in binary:
                names = [name for name in names if not re.match(r"_?Py", name) and "@HORA_" not in name]
            weak = {"__gmon_start__", "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable"}
            self.assertEqual(set(names) - weak, set(), binary)

    def test_exports_its_init_function_alone(self):
        module = self.binaries()[0]
        names = [line.split()[-1] for line in run("nm", "-D", "--defined-only", module).splitlines()]
        self.assertEqual([name for name in names if not name.startswith("PyInit_")], [])

    def test_import_brings_neither_numpy_nor_torch(self):
        program = "import sys, json, hora; print(json.dumps([m for m in ('numpy', 'torch') if m in sys.modules]))"
        self.assertEqual(json.loads(run(environment.BIN / "python", "-c", program)), [])
        times = run(environment.BIN / "python", "-X", "importtime", "-c", "import hora")
        print(next(line for line in times.splitlines() if line.endswith("| hora")), "(us, cumulative: the second)")

    def test_import_of_torch_does_not_bring_hora(self):
        program = "import sys, torch; print([m for m in sys.modules if m.split('.')[0] in ('hora', 'hora_autoload')])"
        self.assertEqual(run(environment.BIN / "python", "-c", program).strip(), "['hora_autoload']")

    def test_the_tool_is_there_and_runs_python(self):
        python = environment.BIN / "python"
        text = run(environment.BIN / "hora", "run", "-np", 2, "--no-tags", python, "-c",
                   "import hora; c = hora.Communicator.init(); b = bytearray(1); c.allreduce(b); c.shutdown(); "
                   "print(f'sizes {c.size}')")  # in one write: without tags the ranks share a stream
        self.assertEqual(text.count("sizes 2"), 2)
        version = run(python, "-c", "import hora; print(hora.__version__)").strip()
        self.assertEqual(run(environment.BIN / "hora", "--version").strip(), f"hora {version}")

    def test_the_types_of_the_module_are_as_its_stub_says(self):
        print(run(environment.BIN / "python", "-m", "mypy.stubtest", "hora._core", "--allowlist",
                  environment.HERE / "stubtest_allowlist"))


if __name__ == "__main__":
    report.main()
