"""Hosts for a demo and for tests: network namespaces on one bridge, each with an sshd of its own, and the shell that
reaches them.

Only network and name are apart: processes, files and users are those of this machine.
"""

import os
import pathlib
import select
import shutil
import subprocess
import tempfile
import time

PATIENCE_S = 20


def missing():
    """Why there can be no such hosts here, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program in ("ip", "sshd", "ssh", "ssh-keygen"):
        if not shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
            return f"no {program} here (scripts/setup test installs it)"
    name = f"hora-probe-{os.getpid()}"
    probe = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if probe.returncode != 0:
        return f"no network namespaces here: {probe.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return None


class Namespaces:
    """`count` hosts and the one that the launcher runs on; removed at the end of the `with` block."""

    def __init__(self, count):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="hora-hosts-"))
        self.prefix = f"hora-{os.getpid()}-"
        self.head = self.prefix + "head"
        self.names = [f"{self.prefix}h{index}" for index in range(1, count + 1)]
        self.addresses = [f"10.99.0.{10 + index}" for index in range(1, count + 1)]
        self.servers = []
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def _ip(self, *words):
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)

    def _make(self):
        for name in (self.head, *self.names):
            self._ip("netns", "add", name)
            self._ip("-n", name, "link", "set", "lo", "up")
        self._ip("-n", self.head, "link", "add", "br0", "type", "bridge")
        self._ip("-n", self.head, "addr", "add", "10.99.0.1/24", "dev", "br0")
        self._ip("-n", self.head, "link", "set", "br0", "up")
        for index, (name, address) in enumerate(zip(self.names, self.addresses), 1):
            self._ip("-n", self.head, "link", "add", f"v{index}", "type", "veth", "peer", "name", "eth0", "netns", name)
            self._ip("-n", self.head, "link", "set", f"v{index}", "master", "br0", "up")
            self._ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            self._ip("-n", name, "link", "set", "eth0", "up")
        self._make_keys()
        for index in range(len(self.names)):
            self.start_server(index)

    def _make_keys(self):
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / name], check=True)
        shutil.copy(self.folder / "user.pub", self.folder / "authorized")
        (self.folder / "sshd.conf").write_text(
            f"HostKey {self.folder}/host\nAuthorizedKeysFile {self.folder}/authorized\nPidFile none\nUsePAM no\n"
            "StrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nPort 22\n"
            # As below another shell: what a user's start-up files do takes long, and some of them bear no sudden end.
            "SetEnv SHLVL=1\n")
        (self.folder / "ssh.conf").write_text(
            f"IdentityFile {self.folder}/user\nIdentitiesOnly yes\nUserKnownHostsFile /dev/null\n"
            "StrictHostKeyChecking no\nLogLevel ERROR\nBatchMode yes\nConnectTimeout 5\n")
        os.makedirs("/run/sshd", exist_ok=True)  # sshd asks for it

    @property
    def shell(self):
        return f"ssh -F {self.folder}/ssh.conf"

    def start_server(self, index):
        sshd = shutil.which("sshd", path="/usr/sbin:/sbin:" + os.environ.get("PATH", ""))
        server = subprocess.Popen(
            # A name of its own, by which some programs tell hosts apart.
            ["ip", "netns", "exec", self.names[index], "unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"',
             self.names[index], sshd, "-D", "-e", "-f", self.folder / "sshd.conf"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.servers.append(server)
        deadline = time.monotonic() + PATIENCE_S
        probe = ["ip", "netns", "exec", self.head, *self.shell.split(), self.addresses[index], "true"]
        while subprocess.run(probe, capture_output=True).returncode != 0:
            if time.monotonic() > deadline or server.poll() is not None:
                raise AssertionError(f"sshd does not answer at {self.addresses[index]}")
            select.select([], [], [], 0.05)

    def command(self, *words):
        """A command line that runs on the launcher's host."""
        return ["ip", "netns", "exec", self.head, *map(str, words)]

    def set_link(self, index, state):
        """`state`: up or down."""
        self._ip("-n", self.names[index], "link", "set", "eth0", state)

    def address_of(self, pid):
        """Of the host that a process runs on; None for another, or where it has ended."""
        found = subprocess.run(["ip", "netns", "identify", str(pid)], capture_output=True, text=True).stdout.strip()
        return dict(zip(self.names, self.addresses)).get(found)

    def close(self):
        for server in self.servers:
            server.kill()
            server.wait()
        for name in (self.head, *self.names):
            pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split()
            for pid in map(int, pids):
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    pass
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

