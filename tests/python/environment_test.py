#!/usr/bin/env python3
"""Makes the environment of the other tests: PyTorch from PyPI, and the wheel of the build that is tested."""

import subprocess
import sys

import environment
import report


def run(*command):
    done = subprocess.run([str(word) for word in command], cwd=report.ROOT, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    print(done.stdout, flush=True)
    return done.returncode == 0


def main():
    build = report.build_directory()
    environment.READY.unlink(missing_ok=True)
    if not run("scripts/environments", "wheel", "torch"):
        print("SKIPPED: no environment with PyTorch can be made, most likely without a network")
        return 0
    if not run("scripts/wheel", build, environment.wheel_folder(build)):
        return 1
    wheel = environment.wheel(build)
    if not run(environment.BIN / "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--force-reinstall", wheel):
        return 1
    environment.READY.write_text(f"{wheel}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
