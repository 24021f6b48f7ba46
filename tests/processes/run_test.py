#!/usr/bin/env python3
"""`hora run` from outside: exit statuses, tagged output, signals, and that nothing is left behind.

usage: run_test.py --build DIR [TEST...]
"""

import argparse
import os
import pty
import re
import resource
import signal
import subprocess
import sys
import tempfile
import unittest

import waiting

HORA = ""
PATIENCE_S = 30


def run(*arguments, **options):
    return subprocess.run([HORA, "run", *arguments], capture_output=True, text=True, timeout=PATIENCE_S, **options)


def shell(script):
    return ["sh", "-c", script]


def ignoring(number):
    """For a process that is started with a signal ignored, as by nohup."""
    return lambda: signal.signal(number, signal.SIG_IGN)


def wait_until(condition, what):
    waiting.wait_until(condition, what, PATIENCE_S)


class Running:
    """A `hora run` in the background, whose ranks write lines to a file that can be awaited."""

    def __init__(self, *arguments, **options):
        self.folder = tempfile.TemporaryDirectory()
        self.notes = os.path.join(self.folder.name, "notes")
        open(self.notes, "w", encoding="utf-8").close()
        self.process = subprocess.Popen([HORA, "run", *arguments], text=True, env={**os.environ, "NOTES": self.notes},
                                        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self.folder.cleanup()

    def lines(self):
        with open(self.notes, encoding="utf-8") as file:
            return [line for line in file.read().split("\n") if line]

    def note(self, line):
        with open(self.notes, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def await_lines(self, count):
        wait_until(lambda: len(self.lines()) >= count, f"{count} lines, got {self.lines()}")
        return self.lines()

    def end(self):
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out, err


class Status(unittest.TestCase):
    def test_all_ranks_succeed(self):
        self.assertEqual(run("-np", "3", "true").returncode, 0)

    def test_first_failure_is_the_status(self):
        result = run("-np", "2", *shell("test $HORA_RANK = 0 || exit 7"))
        self.assertEqual(result.returncode, 7)
        self.assertIn("rank 1 exited with status 7", result.stderr)

    def test_a_signal_counts_from_128(self):
        result = run("-np", "2", *shell("test $HORA_RANK = 0 || kill -9 $$"))
        self.assertEqual(result.returncode, 137)
        self.assertIn("rank 1 was killed by SIGKILL", result.stderr)

    def test_enough_ranks_are_success(self):
        result = run("-np", "3", "--min-np", "2", *shell("test $HORA_RANK != 1 || kill -9 $$"))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("rank 1 was killed by SIGKILL", result.stderr)

    def test_too_few_ranks_are_failure(self):
        result = run("-np", "3", "--min-np", "2", *shell("test $HORA_RANK = 1 || exit 3"))
        self.assertEqual(result.returncode, 3)
        self.assertIn("fewer than 2 of 3", result.stderr)

    def test_who_was_killed_goes_before_a_survivor_that_gave_up(self):
        # The end of a process is seen when its memory is freed: survivors may be gone by then.
        script = f"""if test $HORA_RANK = 0; then echo $$ > $NOTES.pid; echo >> $NOTES; exit 1; fi
            until test -s $NOTES; do :; done; {waiting.AWAIT_PROCESS}; kill -9 $$"""
        with Running("-np", "2", *shell(script)) as job:
            status, _, err = job.end()
        self.assertEqual(status, 137, err)
        self.assertEqual(err.splitlines()[:2], ["hora run: rank 0 exited with status 1",
                                                "hora run: rank 1 was killed by SIGKILL"])

    def test_a_starter_that_ignores_the_ends_of_children(self):
        result = run("-np", "2", *shell("exit 7"), preexec_fn=ignoring(signal.SIGCHLD))
        self.assertEqual(result.returncode, 7, result.stderr)

    def test_command_not_found(self):
        result = run("-np", "2", "no-such-command-anywhere")
        self.assertEqual(result.returncode, 127)
        self.assertEqual(result.stderr, "hora run: no-such-command-anywhere: command not found\n")
        self.assertEqual(run("-np", "2", "./no/such/file").returncode, 127)
        self.assertEqual(run("-np", "2", "/etc/passwd").returncode, 126)

    def test_an_address_that_the_store_cannot_have(self):
        for address in ("192.0.2.1", "no-such-host.invalid"):
            result = run("-np", "1", "--store-address", address, "true")
            self.assertEqual(result.returncode, 2, result.stderr)
            self.assertIn(f"--store-address {address}: ", result.stderr)

    def test_too_few_open_files(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))

        result = run("-np", "30", "true", preexec_fn=limit)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("open files", result.stderr)

    def test_usage(self):
        for arguments in ([], ["true"], ["-np", "0", "true"], ["-np", "x", "true"], ["-np", "2"],
                          ["-np", "2", "--no-such", "true"], ["-np", "2", "--min-np", "3", "true"],
                          ["-np", "2", "--min-np", "-1", "true"], ["-np", "2", "--min-np", "0", "true"],
                          ["-np", "2", "--max-np", "1", "true"], ["-np", "2", "--max-np", "9999", "true"],
                          ["-np", "2", "--max-restarts", "-1", "true"],
                          ["-np", "2", "--hosts", "a:1", "true"]):
            result = run(*arguments)
            self.assertEqual(result.returncode, 2, arguments)
            self.assertIn("hora run: ", result.stderr)

    def test_help(self):
        result = run("--help")
        self.assertEqual(result.returncode, 0)
        self.assertIn("--min-np", result.stdout)

    def test_options_of_the_command_are_its_own(self):
        result = run("-np", "1", "--no-tags", "echo", "-np", "7", "--min-np", "--help")
        self.assertEqual(result.stdout, "-np 7 --min-np --help\n")
        result = run("-np", "1", "--no-tags", "--", "echo", "-x")
        self.assertEqual(result.stdout, "-x\n")
        result = run("-xPATH", "-np", "1", "--no-tags", "echo", "-np")
        self.assertEqual((result.returncode, result.stdout), (0, "-np\n"), result.stderr)

    def test_survivors_of_a_failed_job_are_ended(self):
        result = run("-np", "3", "--grace", "0.1", *shell("test $HORA_RANK != 1 || exit 5; exec sleep 1000"))
        self.assertEqual(result.returncode, 5)
        self.assertIn("asking 2 remaining ranks to end", result.stderr)

    def test_survivors_that_ignore_sigterm_are_killed(self):
        result = run("-np", "2", "--grace", "0.1",
                     *shell("test $HORA_RANK = 0 || exit 5; trap '' TERM; while :; do sleep 1000; done"))
        self.assertEqual(result.returncode, 5)


class Replacements(unittest.TestCase):
    """The ranks that live wait until the test says that it is enough."""

    # The founders of the scripts below end once a line says so.
    WAIT = waiting.AWAIT_END

    def test_the_dead_are_replaced(self):
        script = f"""echo "${{HORA_JOIN:-0}} ${{HORA_RANK-none}} ${{HORA_SIZE-none}} $HORA_LOCAL_RANK" >> $NOTES
            test "$HORA_RANK" != 1 || kill -9 $$; {self.WAIT}; echo said"""
        with Running("-np", "3", "--max-restarts", "3", *shell(script)) as job:
            lines = job.await_lines(4)
            self.assertEqual(sorted(lines), ["0 0 3 0", "0 1 3 1", "0 2 3 2", "1 none none 1"])
            job.note("end")
            status, out, err = job.end()
        self.assertEqual(status, 0, err)
        self.assertEqual(err, "hora run: rank 1 was killed by SIGKILL; replaced by [3] (1 of 3 restarts)\n")
        self.assertEqual(sorted(out.split()), sorted("[0] said [2] said [3] said".split()))

    def test_a_replacement_is_replaced_later(self):
        script = f'echo start >> $NOTES; test "$HORA_RANK" = 0 || exit 4; {self.WAIT}'
        with Running("-np", "2", "--min-np", "1", "--max-restarts", "2", *shell(script)) as job:
            job.await_lines(4)
            err = [job.process.stderr.readline() for _ in range(3)]
            job.note("end")
            self.assertEqual(job.end()[0], 0)
        self.assertEqual(err, ["hora run: rank 1 exited with status 4; replaced by [2] (1 of 2 restarts)\n",
                               "hora run: [2] exited with status 4; replaced by [3] in 100 ms (2 of 2 restarts)\n",
                               "hora run: [3] exited with status 4; all 2 restarts are used\n"])

    def test_a_job_fails_once_its_restarts_are_used(self):
        script = f'test "$HORA_RANK" = 0 || exit 4; {self.WAIT}'
        with Running("-np", "2", "--min-np", "2", "--max-restarts", "1", "--grace", "0.1", *shell(script)) as job:
            status, _, err = job.end()
        self.assertEqual(status, 4, err)
        self.assertIn("fewer than 2 of 2", err)

    def test_every_process_has_a_token_of_its_own(self):
        script = f'echo $HORA_LAUNCH_TOKEN >> $NOTES; test "$HORA_RANK" != 1 || exit 1; {self.WAIT}'
        with Running("-np", "3", "--max-restarts", "1", *shell(script)) as job:
            tokens = job.await_lines(4)
            job.note("end")
            self.assertEqual(job.end()[0], 0)
        self.assertEqual(len(set(tokens)), 4)
        self.assertTrue(all(len(token) >= 16 for token in tokens), tokens)

    def test_nobody_is_replaced_once_a_rank_has_succeeded(self):
        script = 'if test $HORA_RANK = 0; then echo end >> $NOTES; else ' + self.WAIT + '; wait_for_zero; exit 3; fi'
        script = script.replace("wait_for_zero", waiting.AWAIT_PROCESS)
        script = "test $HORA_RANK != 0 || echo $$ > $NOTES.pid; " + script
        with Running("-np", "2", "--min-np", "1", "--max-restarts", "3", *shell(script)) as job:
            status, _, err = job.end()
        self.assertEqual((status, err), (0, "hora run: rank 1 exited with status 3\n"))

    def test_nobody_is_replaced_after_an_interrupt(self):
        script = f"trap 'exit 9' TERM; echo ready >> $NOTES; {waiting.STAY}"
        with Running("-np", "2", "--max-restarts", "5", *shell(script)) as job:
            job.await_lines(2)
            job.process.send_signal(signal.SIGINT)
            status, _, err = job.end()
        self.assertEqual(status, 130)
        self.assertNotIn("replaced", err)


class Environment(unittest.TestCase):
    def test_ranks_are_told_who_they_are(self):
        result = run("-np", "2", "--min-np", "1", "--no-tags", "env")
        values = [line for line in result.stdout.split("\n") if line.startswith("HORA_")]
        for expected in ("HORA_RANK=0", "HORA_RANK=1", "HORA_LOCAL_RANK=0", "HORA_LOCAL_RANK=1"):
            self.assertEqual(values.count(expected), 1, expected)
        for expected in ("HORA_SIZE=2", "HORA_LOCAL_SIZE=2", "HORA_MIN_SIZE=1", "HORA_KILL_SUSPECTS=1"):
            self.assertEqual(values.count(expected), 2, expected)
        for name in ("HORA_JOB", "HORA_STORE", "HORA_SECRET"):
            found = {line for line in values if line.startswith(name + "=")}
            self.assertEqual(len(found), 1, name)
            self.assertGreater(len(found.pop()), len(name) + 8)

    def test_two_jobs_share_nothing(self):
        script = shell("echo $HORA_JOB; echo $HORA_STORE; echo $HORA_SECRET")
        first, second = (set(run("-np", "1", "--no-tags", *script).stdout.split()) for _ in range(2))
        self.assertEqual(len(first), 3)
        self.assertFalse(first & second)

    def test_values_from_outside_are_replaced(self):
        environment = {**os.environ, "HORA_SIZE": "99", "HORA_SIZE_OTHER": "kept"}
        result = run("-np", "1", "--no-tags", *shell("echo $HORA_SIZE $HORA_SIZE_OTHER; env | grep -c ^HORA_SIZE="),
                     env=environment)
        self.assertEqual(result.stdout, "1 kept\n1\n")

    def test_the_secret_is_in_no_command_line(self):
        with Running("-np", "1", *shell("echo $HORA_SECRET >> $NOTES; exec sleep 1000")) as job:
            secret = job.await_lines(1)[0]
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    with open(f"/proc/{pid}/cmdline", "rb") as file:
                        self.assertNotIn(secret.encode(), file.read())
                except (FileNotFoundError, ProcessLookupError):
                    pass

    def test_open_files_are_as_many_as_may_be(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))

        self.assertEqual(run("-np", "1", "--no-tags", *shell("ulimit -n"), preexec_fn=limit).stdout, "200\n")

    def test_openmp_is_left_alone_where_a_rank_is_alone(self):
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        for ranks, threads in (("1", "unset"), ("2", "1")):
            result = run("-np", ranks, "--no-tags", *shell("echo ${OMP_NUM_THREADS-unset}"), env=environment)
            self.assertEqual(set(result.stdout.split()), {threads})

    def test_ranks_read_nothing(self):
        result = run("-np", "2", "--no-tags", "cat", input="for somebody else\n")
        self.assertEqual((result.returncode, result.stdout), (0, ""))


class Output(unittest.TestCase):
    def test_lines_are_tagged_and_never_torn(self):
        script = "import os,sys\nfor i in range(2000): sys.stdout.write(f'{i} ' + 'x' * 50 + '\\n')\n"
        result = run("-np", "4", sys.executable, "-c", script)
        self.assertEqual(result.returncode, 0, result.stderr)
        lines = result.stdout.split("\n")
        self.assertEqual(lines.pop(), "")
        self.assertEqual(len(lines), 8000)
        following = [0] * 4
        for line in lines:
            match = re.fullmatch(r"\[(\d)\] (\d+) x{50}", line)
            self.assertTrue(match, line)
            rank, number = map(int, match.groups())
            self.assertEqual(number, following[rank])
            following[rank] += 1

    def test_streams_stay_apart(self):
        result = run("-np", "2", *shell("echo out; echo err >&2"))
        self.assertEqual(sorted(result.stdout.split("\n")), ["", "[0] out", "[1] out"])
        self.assertEqual(sorted(result.stderr.split("\n")), ["", "[0] err", "[1] err"])

    def test_lines_are_whole_where_both_streams_go_to_one_place(self):
        script = """import os
for i in range(300):
    for stream in 1, 2:
        os.write(stream, b"%d " % i + b"xy"[stream - 1:stream] * (3000 * (1 + i % 3)) + b"\\n")"""
        with Running("-np", "2", sys.executable, "-c", script, stderr=subprocess.STDOUT) as job:
            status, out, _ = job.end()
        self.assertEqual(status, 0)
        lines = out.splitlines()
        self.assertEqual(len(lines), 1200)
        torn = [line[:40] for line in lines if not re.fullmatch(r"\[\d\] \d+ (x+|y+)", line)]
        self.assertEqual(torn, [])

    def test_a_last_line_without_an_end_is_not_lost(self):
        self.assertEqual(run("-np", "1", "printf", "half").stdout, "[0] half\n")

    def test_untagged_output_passes_as_it_is(self):
        self.assertEqual(run("-np", "1", "--no-tags", "printf", "half").stdout, "half")

    def test_nothing_is_lost_when_a_rank_dies(self):
        result = run("-np", "1", *shell("seq 5000; kill -9 $$"))
        self.assertEqual(result.returncode, 137)
        self.assertEqual(result.stdout, "".join(f"[0] {i}\n" for i in range(1, 5001)))

    def test_a_reader_that_leaves_does_not_stop_the_job(self):
        with Running("-np", "1", *shell("while ! test -s $NOTES; do seq 1000; done; echo end >> $NOTES")) as job:
            job.process.stdout.close()
            job.note("closed")
            self.assertEqual(job.process.wait(PATIENCE_S), 0)
            self.assertEqual(job.lines(), ["closed", "end"])

    def test_a_terminal_that_nobody_reads_does_not_delay_signals(self):
        master, terminal = pty.openpty()
        with Running("-np", "1", *shell("echo $$ >> $NOTES; exec yes"), stdout=terminal) as job:
            os.close(terminal)
            pid = int(job.await_lines(1)[0])
            self.assertEqual(os.read(master, 1), b"[")
            wait_until(lambda: waiting.state(pid) == "S", "the rank is held back")
            job.process.send_signal(signal.SIGINT)
            wait_until(lambda: not waiting.alive(pid), "the rank ends")
            os.close(master)
            self.assertEqual(job.end()[0], 130)

    def test_a_reader_that_does_not_read_does_not_delay_signals(self):
        with Running("-np", "1", *shell("echo $$ >> $NOTES; yes")) as job:
            pid = int(job.await_lines(1)[0])
            job.process.send_signal(signal.SIGINT)
            wait_until(lambda: not waiting.alive(pid), "the rank ends")
            self.assertEqual(job.end()[0], 130)


class Signals(unittest.TestCase):
    def test_once_asks(self):
        script = f"trap 'echo asked >> $NOTES; exit 0' TERM; echo ready >> $NOTES; {waiting.STAY}"
        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            with Running("-np", "2", *shell(script)) as job:
                job.await_lines(2)
                job.process.send_signal(number)
                self.assertEqual(job.end()[0], status)
                self.assertEqual(sorted(job.lines()), ["asked", "asked", "ready", "ready"])

    def test_ranks_that_ignore_sigterm_are_killed_unless_it_came_from_a_keyboard(self):
        script = f"trap 'echo asked >> $NOTES' TERM; echo ready >> $NOTES; {waiting.STAY}"
        for number, status in ((signal.SIGTERM, 143), (signal.SIGHUP, 129)):
            with Running("-np", "2", "--grace", "0.1", *shell(script)) as job:
                job.await_lines(2)
                job.process.send_signal(number)
                self.assertEqual(job.end()[0], status)
                self.assertEqual(sorted(job.lines()), ["asked", "asked", "ready", "ready"])

    def test_twice_kills(self):
        script = f"trap 'echo asked >> $NOTES' TERM; echo ready >> $NOTES; {waiting.STAY}"
        with Running("-np", "2", *shell(script)) as job:
            job.await_lines(2)
            job.process.send_signal(signal.SIGINT)
            job.await_lines(4)
            self.assertIsNone(job.process.poll())
            job.process.send_signal(signal.SIGINT)
            self.assertEqual(job.end()[0], 130)


    def test_only_ctrl_c_cuts_the_grace_short(self):
        script = f"""trap 'echo asked >> $NOTES' TERM; echo ready >> $NOTES
            until grep -q ^end $NOTES; do sleep 0.05; done; echo ended >> $NOTES"""
        for number, status in ((signal.SIGHUP, 129), (signal.SIGTERM, 143)):
            with Running("-np", "2", "--grace", "60", *shell(script)) as job:
                job.await_lines(2)
                job.process.send_signal(number)
                job.await_lines(4)
                job.process.send_signal(number)
                wait_until(lambda: not waiting.pending(job.process.pid, number), "the second signal is taken")
                job.note("end")
                self.assertEqual(job.end()[0], status)
                self.assertEqual(job.lines().count("ended"), 2, job.lines())

    def test_what_the_starter_ignores_does_not_end_the_job(self):
        script = f"echo ready >> $NOTES; {waiting.AWAIT_END}; echo said"
        for number in (signal.SIGHUP, signal.SIGINT):
            with Running("-np", "2", *shell(script), preexec_fn=ignoring(number)) as job:
                job.await_lines(2)
                job.process.send_signal(number)
                job.note("end")
                status, out, err = job.end()
                self.assertEqual((status, sorted(out.split()), err), (0, ["[0]", "[1]", "said", "said"], ""))


class Orphans(unittest.TestCase):
    def assert_all_end(self, pids, job):
        wait_until(lambda: not any(map(waiting.alive, pids)), f"the end of {pids}")

    def test_none_when_the_launcher_is_killed(self):
        scripts = {
            "the rank itself": "echo $$ >> $NOTES; exec sleep 1000",
            "a shell's child": "sleep 1000 & echo $! >> $NOTES; wait",
            "a shell's grandchild": "(sleep 1000 & echo $! >> $NOTES; wait) & wait",
            "one that ignores SIGTERM and SIGHUP": "trap '' TERM HUP; sleep 1000 & echo $! >> $NOTES; wait",
        }
        for name, script in scripts.items():
            with self.subTest(name), Running("-np", "2", *shell(script)) as job:
                pids = [int(line) for line in job.await_lines(2)]
                self.assertTrue(all(map(waiting.alive, pids)))
                job.process.kill()
                self.assert_all_end(pids, job)

    def test_none_when_a_rank_ends_before_its_children(self):
        with Running("-np", "2", *shell("sleep 1000 & echo $! >> $NOTES")) as job:
            self.assertEqual(job.end()[0], 0)
            self.assert_all_end([int(line) for line in job.await_lines(2)], job)

    def test_none_when_the_job_is_killed_by_ctrl_c(self):
        with Running("-np", "1", *shell("trap '' TERM; sleep 1000 & echo $! >> $NOTES; wait; wait")) as job:
            pids = [int(line) for line in job.await_lines(1)]
            job.process.send_signal(signal.SIGINT)
            self.assertEqual(job.end()[0] if self.second(job) else None, 130)
            self.assert_all_end(pids, job)

    def second(self, job):
        """The second Ctrl-C, once the first has been answered."""
        while "interrupt again" not in job.process.stderr.readline():
            pass
        job.process.send_signal(signal.SIGINT)
        return True

    def test_the_watchdog_goes_too(self):
        with Running("-np", "1", *shell("echo $PPID >> $NOTES; while test $(wc -l < $NOTES) = 1; do :; done")) as job:
            launcher = job.await_lines(1)[0]
            with open(f"/proc/{launcher}/task/{launcher}/children", encoding="ascii") as file:
                children = file.read().split()
            names = {}
            for pid in children:
                with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
                    names[file.read().strip()] = int(pid)
            self.assertIn("hora-watchdog", names)
            job.note("end")
            self.assertEqual(job.end()[0], 0)
            self.assertFalse(waiting.alive(names["hora-watchdog"]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    arguments, others = parser.parse_known_args()
    HORA = os.path.abspath(os.path.join(arguments.build, "hora"))
    unittest.main(verbosity=2, argv=[sys.argv[0], *others])
