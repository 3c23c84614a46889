"""Checks that are printed and counted, for the scripts that ask real clients."""
import sys

failures = []


def check(name, good, more=""):
    print(f"{'ok      ' if good else 'DIFFERS '} {name} {more}", flush=True)
    if not good:
        failures.append(name)


def finish():
    """Exit code 1 when any check failed."""
    print(f"{len(failures)} failed")
    sys.exit(1 if failures else 0)
