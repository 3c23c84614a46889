"""Checks that are printed and counted, for the scripts that ask real clients."""
import shutil
import subprocess
import sys

failures = []


def check(name, good, more=""):
    print(f"{'ok      ' if good else 'DIFFERS '} {name} {more}", flush=True)
    if not good:
        failures.append(name)


def runner(tsubu):
    """run(words …, out=None): the program's standard output; out is removed first and given as -o. RuntimeError when it fails."""
    def run(*args, out=None):
        if out is not None:
            shutil.rmtree(out, ignore_errors=True)
            args = (*args, "-o", out)
        done = subprocess.run([tsubu, *map(str, args), "--quiet"], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"tsubu {' '.join(map(str, args))}: {done.stderr}")
        return done.stdout
    return run


def finish():
    """Exit code 1 when any check failed."""
    print(f"{len(failures)} failed")
    sys.exit(1 if failures else 0)
