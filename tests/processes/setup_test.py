#!/usr/bin/env python3
"""scripts/setup on machines that lack this or that, played by fake system commands."""

import pathlib
import shutil
import subprocess
import tempfile
import unittest

import report

SETUP = report.ROOT / "scripts" / "setup"
TOOLS = ("bash", "env", "sed", "tr", "sort", "head", "tail", "mktemp", "rm", "true")
BUILD_PACKAGES = "ninja-build pkg-config python3 libfmt-dev libcli11-dev nlohmann-json3-dev"


class Machine:
    """A PATH of its own. `installed` and `available` are package names."""

    def __init__(self, folder, installed, available, root=True, sudo=False, cmake="3.25.1"):
        self.folder = pathlib.Path(folder)
        for tool in TOOLS:
            (self.folder / tool).symlink_to(shutil.which(tool))
        (self.folder / "installed").write_text("\n".join(installed.split()) + "\n")
        (self.folder / "available").write_text("\n".join(available.split()) + "\n")
        grep = shutil.which("grep")
        self.command("id", f"echo {0 if root else 1000}")
        self.command("cmake", f"echo cmake version {cmake}")
        self.command("g++", "true")
        self.command("dpkg-query", f"""shift 2; status=0
            for p in "$@"; do {grep} -qx "$p" {folder}/installed && echo "ii  $p" || status=1; done; exit $status""")
        self.command("apt-cache", f'{grep} -qx "$2" {folder}/available')
        self.command("apt-get", f"""echo "$*" >>{folder}/calls
            case "$*" in *install*) ;; *) exit 0 ;; esac
            for p in "$@"; do case "$p" in -*|*=*|install) continue ;; esac
              {grep} -qx "$p" {folder}/available || {{ echo "E: Unable to locate package $p"; exit 100; }}; done""")
        if sudo:
            self.command("sudo", 'shift; exec "$@"')

    def command(self, name, body):
        path = self.folder / name
        path.write_text(f"#!{shutil.which('bash')}\n{body}\n")
        path.chmod(0o755)

    def setup(self, *groups):
        return subprocess.run([shutil.which("bash"), SETUP, *groups], capture_output=True, text=True, timeout=60,
                              stdin=subprocess.DEVNULL, env={"PATH": str(self.folder), "TMPDIR": str(self.folder)})

    def calls(self):
        path = self.folder / "calls"
        return path.read_text() if path.exists() else ""


class Setup(unittest.TestCase):
    def machine(self, *arguments, **options):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return Machine(folder.name, *arguments, **options)

    def test_says_nothing_when_nothing_is_missing(self):
        machine = self.machine(BUILD_PACKAGES, "")
        done = machine.setup()
        self.assertEqual((done.returncode, done.stdout + done.stderr, machine.calls()), (0, "", ""))

    def test_installs_what_is_missing_and_says_why(self):
        machine = self.machine(BUILD_PACKAGES.replace("libcli11-dev", ""), "libcli11-dev")
        done = machine.setup("build")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("libcli11-dev: parses the command line of the hora tool", done.stdout)
        self.assertRegex(machine.calls(), r"install -y --no-install-recommends libcli11-dev\n$")

    def test_uses_sudo_where_it_asks_for_no_password(self):
        machine = self.machine("", BUILD_PACKAGES, root=False, sudo=True)
        self.assertEqual(machine.setup().returncode, 0)
        self.assertIn("libfmt-dev", machine.calls())

    def test_gives_the_command_to_who_may_not_install(self):
        machine = self.machine(BUILD_PACKAGES.replace("libfmt-dev", ""), "libfmt-dev", root=False)
        done = machine.setup()
        self.assertEqual((done.returncode, machine.calls()), (1, ""))
        self.assertIn("apt-get install -y --no-install-recommends libfmt-dev", done.stderr)

    def test_names_the_package_that_does_not_exist(self):
        machine = self.machine(BUILD_PACKAGES, "ccache catch2")
        done = machine.setup("build", "test")
        self.assertEqual(done.returncode, 1)
        self.assertIn("apt knows no package librapidcheck-dev", done.stderr)
        self.assertNotIn("no package catch2", done.stderr)
        self.assertIn("update", machine.calls())

    def test_refuses_an_old_cmake(self):
        done = self.machine(BUILD_PACKAGES, "", cmake="3.18.4").setup()
        self.assertEqual(done.returncode, 1)
        self.assertIn("cmake is 3.18.4", done.stderr)
        self.assertIn("3.25", done.stderr)

    def test_refuses_an_unknown_group(self):
        self.assertEqual(self.machine("", "").setup("everything").returncode, 2)


if __name__ == "__main__":
    report.main()
