#!/usr/bin/env python3
"""`hora run --hosts`: ranks on several hosts, through a remote shell.

Most tests use a remote shell that stays on this machine; the last ones use sshd in network namespaces.

usage: hosts_test.py --build DIR [TEST...]
"""

import argparse
import os
import pathlib
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "examples"))
import namespaces  # noqa: E402
import waiting  # noqa: E402

HORA = ""
PATIENCE_S = 60
WAIT = waiting.AWAIT_END
# Says where it runs, and refuses a host called broken.
SHELL = """#!/bin/sh
test "$1" != broken || { echo "no route to $1" >&2; exit 255; }
test "$1" != chatty || echo "Welcome to the machine room"
test "$1" != careless || trap '' CHLD
export TEST_HOST=$1
shift
test "$TEST_HOST" != polite || { sh -c "$*"; echo "Come back soon"; exit; }
exec sh -c "$*"
"""


def wait_until(condition, what):
    waiting.wait_until(condition, what, PATIENCE_S)


def descendants(pid):
    """All that a process and those below it have started, and that still runs."""
    try:
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [one for child in map(int, children) for one in (child, *descendants(child))]


def agents(launcher):
    """Process ids of the agents below a launcher, by their host. Only with the shell that stays here."""
    found = {}
    for pid in descendants(launcher):
        try:
            words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            variables = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            name = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
        except (FileNotFoundError, ProcessLookupError):
            continue
        host = [one[len(b"TEST_HOST="):].decode() for one in variables if one.startswith(b"TEST_HOST=")]
        if words[1:2] == [b"agent"] and name == "hora" and host:
            found[host[0]] = pid
    return found


class Run:
    """A `hora run` in the background whose ranks note lines in a file."""

    def __init__(self, *arguments, prefix=()):
        self.folder = tempfile.TemporaryDirectory()
        folder = pathlib.Path(self.folder.name)
        self.notes = folder / "notes"
        self.notes.touch()
        shell = folder / "shell"
        shell.write_text(SHELL)
        shell.chmod(shell.stat().st_mode | stat.S_IXUSR)
        given = [str(word).replace("{shell}", str(shell)) for word in arguments]
        environment = {**os.environ, "NOTES": str(self.notes), "HORA_SSH": str(shell)}
        self.errors = open(folder / "errors", "w+", encoding="utf-8")
        self.process = subprocess.Popen([*prefix, HORA, "run", "-x", "NOTES", *given], stdout=subprocess.PIPE,
                                        stderr=self.errors, text=True, env=environment)

    def lines(self):
        return [line for line in self.notes.read_text(encoding="utf-8").split("\n") if line]

    def note(self, line):
        with open(self.notes, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def await_lines(self, count):
        def enough():
            if self.process.poll() is not None and len(self.lines()) < count:
                raise AssertionError(f"the job has ended: {self.error_text()}")
            return len(self.lines()) >= count

        wait_until(enough, f"{count} lines, got {self.lines()}: {self.error_text()}")
        return self.lines()

    def error_text(self):
        return pathlib.Path(self.errors.name).read_text(encoding="utf-8")

    def end(self):
        out, _ = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out, self.error_text()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self.errors.close()
        self.folder.cleanup()


def run(*arguments):
    with Run(*arguments) as job:
        return job.end()


class Hosts(unittest.TestCase):
    HERE = ("--store-address", "127.0.0.1")

    def test_ranks_go_to_hosts_in_blocks(self):
        script = "echo $TEST_HOST $HORA_RANK/$HORA_SIZE $HORA_LOCAL_RANK/$HORA_LOCAL_SIZE"
        status, out, err = run("-np", "5", "--hosts", "a:2,b:2,c:2", *self.HERE, "sh", "-c", script)
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(sorted(out.split("\n"))[1:],
                         ["[0] a 0/5 0/2", "[1] a 1/5 1/2", "[2] b 2/5 0/2", "[3] b 3/5 1/2", "[4] c 4/5 0/1"])

    def test_what_goes_along(self):
        os.environ["HORA_STALL_WARNING_MS"] = "12345"
        try:
            status, out, err = run("-np", "1", "--hosts", "a:1", *self.HERE, "-x", "COLOR=deep blue", "sh", "-c",
                                   "echo $COLOR; echo $HORA_STALL_WARNING_MS; pwd; echo $HORA_STORE; echo on-error >&2")
        finally:
            del os.environ["HORA_STALL_WARNING_MS"]
        self.assertEqual((status, err), (0, "[0] on-error\n"))
        lines = out.split("\n")
        self.assertEqual(lines[:3], ["[0] deep blue", "[0] 12345", f"[0] {os.getcwd()}"])
        self.assertRegex(lines[3], r"^\[0\] tcp:127\.0\.0\.1:\d+$")

    def test_this_host_needs_no_shell(self):
        status, out, _ = run("-np", "2", "--hosts", "localhost:2", "--ssh", "/nowhere", "sh", "-c", "echo $HORA_STORE")
        self.assertEqual(status, 0)
        self.assertRegex(out, r"^\[\d\] unix:@")

    def test_the_secret_is_in_no_command_line(self):
        with Run("-np", "2", "--hosts", "a:1,b:1", *self.HERE, "sh", "-c",
                 f"echo $HORA_SECRET >> $NOTES; {WAIT}") as job:
            secret = job.await_lines(2)[0].encode()
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    self.assertNotIn(secret, pathlib.Path(f"/proc/{pid}/cmdline").read_bytes())
                except (FileNotFoundError, ProcessLookupError):
                    pass
            job.note("end")
            self.assertEqual(job.end()[0], 0)

    def test_all_output_comes_in_order(self):
        status, out, _ = run("-np", "2", "--hosts", "a:1,b:1", *self.HERE, "seq", "60000")
        self.assertEqual(status, 0)
        for rank in "01":
            lines = [line[4:] for line in out.split("\n") if line.startswith(f"[{rank}]")]
            self.assertEqual(lines, [str(number) for number in range(1, 60001)])

    def test_what_a_rank_leaves_running_is_heard(self):
        # It is in no group that ends with the rank, and the other rank keeps the job alive until it is heard.
        script = f"""test $HORA_RANK = 1 || {{ echo $$ > $NOTES.pid
                setsid sh -c 'echo began >> $NOTES; {waiting.AWAIT_PROCESS}; echo late' &
                until grep -q began $NOTES; do sleep 0.05; done; exit 0; }}
            {WAIT}"""
        for places in ("a:1,b:1", "localhost:2"):
            with Run("-np", "2", "--hosts", places, *self.HERE, "sh", "-c", script) as job:
                self.assertEqual(job.process.stdout.readline(), "[0] late\n")
                job.note("end")
                status, _, err = job.end()
            self.assertEqual((status, err), (0, ""))

    def test_a_reader_that_does_not_read_does_not_delay_signals(self):
        with Run("-np", "1", "--hosts", "a:1", *self.HERE, "sh", "-c", "echo $$ >> $NOTES; yes") as job:
            pid = int(job.await_lines(1)[0])
            job.process.send_signal(signal.SIGINT)
            wait_until(lambda: not waiting.alive(pid), "the rank ends")
            self.assertEqual(job.end()[0], 130)

    def test_a_host_that_cannot_be_reached_is_named(self):
        status, out, err = run("-np", "2", "--hosts", "a:1,broken:1", *self.HERE, "sh", "-c", "echo began")
        self.assertEqual((status, out), (126, ""))
        self.assertRegex(err, r"^no route to broken\nhora run: host broken: \S+/shell broken '.*/hora' agent: "
                              r"the remote shell exited with status 255\n$")

    def test_a_shell_that_speaks_first_is_named(self):
        status, _, err = run("-np", "1", "--hosts", "chatty:1", *self.HERE, "true")
        self.assertEqual(status, 126)
        self.assertIn("does a login script print something?", err)

    def test_a_shell_that_speaks_last_is_told_from_that(self):
        with Run("-np", "2", "--hosts", "a:1,polite:1", "--grace", "0.1", *self.HERE, "sh", "-c",
                 f"echo ready >> $NOTES; {WAIT}") as job:
            job.await_lines(2)
            os.kill(agents(job.process.pid)["polite"], signal.SIGKILL)
            _, _, err = job.end()
        self.assertIn("host polite is lost: ", err)
        self.assertIn("amid the agent's words stood some that are none", err)

    def test_a_shell_that_ignores_the_ends_of_children(self):
        status, _, err = run("-np", "1", "--hosts", "careless:1", *self.HERE, "sh", "-c", "exit 7")
        self.assertEqual(status, 7, err)

    def test_a_command_that_is_not_there(self):
        status, _, err = run("-np", "1", "--hosts", "a:1", *self.HERE, "no-such-command-anywhere")
        self.assertEqual(status, 126)
        self.assertIn("no-such-command-anywhere: command not found", err)

    def test_usage(self):
        for arguments, why in ((("--hosts", "a:1"), "do not fit"), (("--hosts", "a:0"), "from 1 to"),
                               (("--hosts", "a:2,,b"), "is no host"), (("--hosts", "a,a:2"), "twice"),
                               (("--hosts", "-oProxyCommand=x:2"), "is no host"), (("-x", "NOT_SET_ANYWHERE"), "-x: ")):
            status, _, err = run("-np", "2", *arguments, "true")
            self.assertEqual(status, 2, arguments)
            self.assertIn(why, err)

    def test_an_address_must_be_known(self):
        status, _, err = run("-np", "1", "--hosts", "no-such-host.invalid:1", "true")
        self.assertEqual(status, 126)
        self.assertIn("--store-address", err)

    def test_the_dead_are_replaced_where_they_were(self):
        script = f"""echo "$TEST_HOST ${{HORA_RANK-new}} $HORA_LOCAL_RANK" >> $NOTES
            test "$HORA_RANK" != 3 || kill -9 $$; {WAIT}"""
        with Run("-np", "4", "--hosts", "a:2,b:2", "--max-restarts", "1", *self.HERE, "sh", "-c", script) as job:
            self.assertEqual(sorted(job.await_lines(5)), ["a 0 0", "a 1 1", "b 2 0", "b 3 1", "b new 1"])
            job.note("end")
            status, _, err = job.end()
        self.assertEqual(status, 0, err)
        self.assertEqual(err, "hora run: rank 3 was killed by SIGKILL; replaced by [4] (1 of 1 restarts)\n")

    def test_ranks_of_a_lost_host_are_replaced_on_another(self):
        script = f'echo "$TEST_HOST ${{HORA_RANK-new}} $$" >> $NOTES; {WAIT}'
        with Run("-np", "2", "--hosts", "a:1,b:2", "--max-restarts", "2", *self.HERE, "sh", "-c", script) as job:
            pids = [int(line.split()[2]) for line in job.await_lines(2) if line.startswith("a 0")]
            os.kill(agents(job.process.pid)["a"], signal.SIGKILL)
            self.assertTrue(job.await_lines(3)[2].startswith("b new "), job.lines())
            wait_until(lambda: not any(map(waiting.alive, pids)), "nothing runs where the agent was")
            job.note("end")
            status, _, err = job.end()
        self.assertEqual(status, 0, err)
        self.assertRegex(err, "hora run: host a is lost: .*\nhora run: rank 0 was lost with its host a; replaced by "
                              r"\[2\] \(1 of 2 restarts\)")

    def test_a_host_that_comes_back_is_used_again(self):
        script = f'echo "$TEST_HOST ${{HORA_RANK-new}}" >> $NOTES; {WAIT}'
        with Run("-np", "2", "--hosts", "a:1,b:1", "--max-restarts", "1", *self.HERE, "sh", "-c", script) as job:
            job.await_lines(2)
            os.kill(agents(job.process.pid)["b"], signal.SIGKILL)
            self.assertEqual(job.await_lines(3)[2], "b new")
            job.note("end")
            self.assertEqual(job.end()[0], 0)

    def test_a_lost_host_ends_the_job_without_restarts(self):
        with Run("-np", "2", "--hosts", "a:1,b:1", "--grace", "0.1", *self.HERE, "sh", "-c",
                 f"echo ready >> $NOTES; {WAIT}") as job:
            job.await_lines(2)
            os.kill(agents(job.process.pid)["b"], signal.SIGKILL)
            status, _, err = job.end()
        self.assertEqual(status, 255, err)

    def test_a_host_whose_agent_is_mute_is_lost_and_reached_again(self):
        script = f'echo "$TEST_HOST $$" >> $NOTES; {WAIT}'
        with Run("-np", "2", "--hosts", "a:1,b:1", "--max-restarts", "1", "--host-silence", "2", *self.HERE, "sh", "-c",
                 script) as job:
            pids = [int(line.split()[1]) for line in job.await_lines(2) if line.startswith("b")]
            os.kill(agents(job.process.pid)["b"], signal.SIGSTOP)
            self.assertTrue(job.await_lines(3)[2].startswith("b "), job.lines())
            wait_until(lambda: not any(map(waiting.alive, pids)), "the end of those that the mute agent had started")
            job.note("end")
            status, _, err = job.end()
        self.assertEqual(status, 0, err)
        self.assertRegex(err, r"host b is lost: .*: silent for \d+ ms")

    def test_a_pause_of_all_hosts_loses_none(self):
        with Run("-np", "2", "--hosts", "a:1,b:1", "--host-silence", "2", *self.HERE, "sh", "-c",
                 f"echo ready >> $NOTES; {WAIT}") as job:
            job.await_lines(2)
            paused = [job.process.pid, *agents(job.process.pid).values()]
            self.assertEqual(len(paused), 3)
            for pid in paused:
                os.kill(pid, signal.SIGSTOP)
            begin = time.monotonic()
            wait_until(lambda: time.monotonic() > begin + 3.5, "the end of the pause, longer than the silence")
            for pid in paused:
                os.kill(pid, signal.SIGCONT)
            job.note("end")
            status, _, err = job.end()
        self.assertEqual((status, err), (0, ""))

    def test_ranks_end_when_nothing_is_heard_of_the_launcher(self):
        with Run("-np", "2", "--hosts", "a:1,b:1", "--host-silence", "2", *self.HERE, "sh", "-c",
                 f"echo $$ >> $NOTES; {WAIT}") as job:
            pids = [int(line) for line in job.await_lines(2)]
            job.process.send_signal(signal.SIGSTOP)
            wait_until(lambda: not any(map(waiting.alive, pids)), f"the end of {pids}")
            job.process.send_signal(signal.SIGCONT)
            self.assertEqual(job.end()[0], 255)

    def test_ranks_of_several_agents_are_one_job(self):
        program = pathlib.Path(HORA).parent / "examples" / "01_allreduce"
        status, out, err = run("-np", "3", "--hosts", "a:1,b:2", *self.HERE, program)
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(sorted(out.split("\n"))[1:],
                         [f"[{rank}] rank {rank} of 3: sum 6 of 3 ranks" for rank in range(3)])

    def test_no_orphans(self):
        script = "sleep 1000 & echo $! >> $NOTES; wait"
        for number in (signal.SIGKILL, signal.SIGINT):
            with Run("-np", "2", "--hosts", "a:1,b:1", *self.HERE, "sh", "-c", script) as job:
                pids = [int(line) for line in job.await_lines(2)]
                pids += agents(job.process.pid).values()
                self.assertEqual(len(pids), 4)
                job.process.send_signal(number)
                wait_until(lambda: not any(map(waiting.alive, pids)), f"the end of {pids} after {number}")


WHY_NOT = namespaces.missing()


class Ssh(unittest.TestCase):
    """Hosts that have nothing in common but a bridge."""

    def setUp(self):
        if WHY_NOT:
            print(f"SKIPPED: {WHY_NOT}", flush=True)
            self.skipTest(WHY_NOT)

    def job(self, hosts, *arguments):
        places = ",".join(f"{address}:2" for address in hosts.addresses)
        return Run("--hosts", places, "--ssh", hosts.shell, *arguments, prefix=hosts.command())

    def test_ranks_run_on_their_hosts(self):
        with namespaces.Namespaces(2) as hosts:
            script = 'echo "$HORA_RANK $HORA_STORE $(ip -br -4 addr show dev eth0 | tr -s \' \' | cut -d\' \' -f3)"'
            with self.job(hosts, "-np", "4", "sh", "-c", script) as job:
                status, out, err = job.end()
        self.assertEqual((status, err), (0, ""))
        found = sorted(re.findall(r"^\[\d\] (\d) tcp:10\.99\.0\.1:\d+ (\S+)/24$", out, re.MULTILINE))
        self.assertEqual(found, [("0", "10.99.0.11"), ("1", "10.99.0.11"), ("2", "10.99.0.12"), ("3", "10.99.0.12")])

    def test_a_host_that_is_cut_off_is_lost_and_comes_back(self):
        script = f'echo "${{HORA_RANK-new}} $$ $(ip netns identify $$)" >> $NOTES; {WAIT}'
        with namespaces.Namespaces(2) as hosts:
            with self.job(hosts, "-np", "4", "--min-np", "2", "--max-restarts", "2", "--host-silence", "2", "sh", "-c",
                          script) as job:
                job.await_lines(4)
                hosts.set_link(1, "down")
                wait_until(lambda: job.error_text().count("was lost with its host 10.99.0.12; replaced by") == 2,
                           "both ranks are lost")
                hosts.set_link(1, "up")
                newcomers = [line for line in job.await_lines(6) if line.startswith("new")]
                self.assertEqual([line.split()[2] for line in newcomers], [hosts.names[1]] * 2)
                job.note("end")
                status, _, err = job.end()
            self.assertEqual(status, 0, err)

    def test_a_host_without_sshd_is_named(self):
        with namespaces.Namespaces(1) as hosts:
            hosts.servers[0].kill()
            hosts.servers[0].wait()
            with self.job(hosts, "-np", "2", "true") as job:
                status, _, err = job.end()
        self.assertEqual(status, 126)
        self.assertRegex(err, r"hora run: host 10\.99\.0\.11: ssh .* 10\.99\.0\.11 .* exited with status 255")

    def test_no_orphans_when_the_launcher_is_killed(self):
        with namespaces.Namespaces(1) as hosts:
            with self.job(hosts, "-np", "2", "sh", "-c", "sleep 1000 & echo $! >> $NOTES; wait") as job:
                pids = [int(line) for line in job.await_lines(2)]
                job.process.kill()
                wait_until(lambda: not any(map(waiting.alive, pids)), f"the end of {pids}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    given, others = parser.parse_known_args()
    HORA = os.path.abspath(os.path.join(given.build, "hora"))
    unittest.main(verbosity=2, argv=[sys.argv[0], *others])
