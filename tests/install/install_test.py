#!/usr/bin/env python3
"""Installs the build into a new folder and uses it as a stranger would.

usage: install_test.py BUILD [CXX]
"""

import os
import re
import subprocess
import sys
import tempfile
import unittest

BUILD = None
CXX = "c++"
HERE = os.path.dirname(os.path.abspath(__file__))
CONSUMER = os.path.join(HERE, "consumer")


def run(*words, **variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HORA_")}
    environment.update(variables)
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=300)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(words)}: status {done.returncode}\n{done.stdout}")
    return done.stdout


class Installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="hora-install-")
        cls.prefix = os.path.join(cls.folder.name, "prefix")
        run("cmake", "--install", BUILD, "--prefix", cls.prefix)
        found = [folder for folder, _, names in os.walk(cls.prefix) if "libhora.so" in names]
        assert len(found) == 1, f"libhora.so is in {found}"
        cls.libraries = found[0]

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def check_program(self, program):
        self.assertIn("allreduce of 1 ranks is right", run(program, LD_LIBRARY_PATH=self.libraries))

    def test_is_found_by_cmake(self):
        build = os.path.join(self.folder.name, "consumer")
        run("cmake", "-S", CONSUMER, "-B", build, f"-DCMAKE_PREFIX_PATH={self.prefix}", f"-DCMAKE_CXX_COMPILER={CXX}",
            f"-DCMAKE_CXX_FLAGS={os.environ.get('CONSUMER_CXXFLAGS', '')}")
        run("cmake", "--build", build)
        self.check_program(os.path.join(build, "consumer"))

    def test_is_found_by_pkg_config(self):
        flags = run("pkg-config", "--cflags", "--libs", "hora",
                    PKG_CONFIG_PATH=os.path.join(self.libraries, "pkgconfig")).split()
        program = os.path.join(self.folder.name, "by_pkg_config")
        run(CXX, "-std=c++20", *os.environ.get("CONSUMER_CXXFLAGS", "").split(), os.path.join(CONSUMER, "main.cc"),
            "-o", program, *flags)
        self.check_program(program)

    def test_exports_names_of_hora_alone(self):
        library = os.path.join(self.libraries, "libhora.so")
        symbols = run("nm", "-D", "-C", "--defined-only", library).splitlines()
        names = [line.split(" ", 2)[2] for line in symbols if line.split(" ", 2)[1] != "A"]
        self.assertIn("hora::Communicator::init()@@HORA_0", names)
        allowed = re.compile(r"(?:(?:typeinfo|typeinfo name|vtable) for )?hora::")
        self.assertEqual([name for name in names if not allowed.match(name)], [])
        inner = re.compile(r"hora::(?:engine|elastic|negotiation|collectives|shm|control|launch|wire|failpoint)::")
        self.assertEqual([name for name in names if inner.match(name)], [])

    def test_needs_no_library_that_a_user_may_lack(self):
        dynamic = run("readelf", "-d", os.path.join(self.libraries, "libhora.so"))
        needed = set(re.findall(r"\(NEEDED\).*\[(.*?)\]", dynamic))
        usual = re.compile(r"(?:libc|libm|libgcc_s|libstdc\+\+|ld-linux.*|lib[a-z]*san)\.so")
        self.assertEqual({name for name in needed if not usual.match(name)}, set())

    def test_installs_the_public_headers(self):
        folder = os.path.join(self.prefix, "include", "hora")
        source = os.path.join(HERE, "..", "..", "include", "hora")
        self.assertEqual(sorted(os.listdir(folder)), sorted(os.listdir(source)))

    def test_installs_the_tool(self):
        self.assertRegex(run(os.path.join(self.prefix, "bin", "hora"), "--version"), r"^hora \d+\.\d+\.\d+$")


if __name__ == "__main__":
    BUILD = os.path.abspath(sys.argv.pop(1))
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        CXX = sys.argv.pop(1)
    unittest.main()
