#!/usr/bin/env python3
"""Runs over two hosts, as `dsft launch --hostfile` starts them: scripts/two_hosts.py

The hosts are two network namespaces of this machine with names of their own, and an agent in ssh's place enters the second. A run has to give the weights of one on a
single host; the caller's variables have to reach the rank there; a rank that is killed or stopped there has to end the run in time, SIGTERM has to reach it,
and it has to be gone before a restart where mpirun dies.
Ends with 4, and says why, where namespaces are not permitted.
"""
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from random_faults import DSFT, MARK, curve, make_job, processes_of

SKIPPED = 4
NAMES = [f"dsft{os.getpid()}{letter}" for letter in "ab"]
ADDRESSES = ["10.213.77.1", "10.213.77.2"]
AGENT = """#!/bin/sh
# AGENT [options] HOST COMMAND
while [ "${1#-}" != "$1" ]; do shift; done
shift
exec ip netns exec NAME unshare -u sh -c "hostname hostb; $*"
"""


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


def make_hosts():
    try:
        subprocess.run(["unshare", "-u", "hostname", "x"], check=True, capture_output=True)
        for name in NAMES:
            ip("netns", "add", name)
        ip("link", "add", "dsft0", "netns", NAMES[0], "type", "veth", "peer", "name", "dsft0", "netns", NAMES[1])
        for name, address in zip(NAMES, ADDRESSES):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "dsft0")
            ip("-n", name, "link", "set", "dsft0", "up")
            ip("-n", name, "link", "set", "lo", "up")
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"skipped: network namespaces are not permitted here ({error})")
        sys.exit(SKIPPED)


def remove_hosts():
    for name in NAMES:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


class Run:
    """`dsft launch` on the first host, its output line by line."""

    def __init__(self, folder, recipe, mark, *settings, options=()):
        environment = dict(os.environ, DSFT_CACHE=str(folder / "cache"), OMP_NUM_THREADS="1", OMPI_MCA_plm_rsh_agent=str(folder / "agent"),
                           PRTE_MCA_plm_ssh_agent=str(folder / "agent"), **{MARK: mark})
        environment.pop("CUDA_VISIBLE_DEVICES", None)
        command = [str(DSFT), "launch", "--hostfile", str(folder / "hosts"), "--num-procs", "2", *options, str(recipe), *settings]
        inside = ["ip", "netns", "exec", NAMES[0], "unshare", "-u", "sh", "-c", 'hostname hosta; exec "$@"', "sh", *command]
        self.process = subprocess.Popen(inside, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines = []

    def until(self, text):
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if text in line:
                return
        raise AssertionError(f"'{text}' never came:\n" + "\n".join(self.lines))

    def end(self, timeout=60):
        begin = time.monotonic()
        output, _ = self.process.communicate(timeout=timeout)
        self.lines += output.splitlines()
        return self.process.returncode, time.monotonic() - begin


def check(condition, what, run):
    if not condition:
        raise AssertionError(f"{what}:\n" + "\n".join(run.lines))
    print(f"ok: {what}", flush=True)


def check_faults(folder, recipe):
    long = ("training.max_steps=5000", "training.save_strategy=no")
    for name, fault, limit in (("killed", signal.SIGKILL, 10), ("stopped", signal.SIGSTOP, 15)):
        run = Run(folder, recipe, name, *long)
        run.until("step 1/")
        os.kill(processes_of(name, 1)[0], fault)
        code, seconds = run.end()
        check(code == 6 and seconds < limit, f"a rank that is {name} on the other host ends the run with 6 in time ({seconds:.1f} s)", run)
        check("rank 1 " in run.lines[-1], f"it is named ({run.lines[-1]})", run)
        time.sleep(2)  # the other host's daemon goes after its ranks
        check(not processes_of(name), "no process is left on either host", run)
    run = Run(folder, recipe, "asked", *long)
    run.until("step 1/")
    launcher = [pid for pid in processes_of("asked") if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "dsft"]
    os.kill(launcher[0], signal.SIGTERM)
    code, _ = run.end()
    check(code == 75, "a run that is asked to stop saves on both hosts and ends with 75", run)


def check_restart(folder, recipe):
    run = Run(folder, recipe, "again", "training.max_steps=5000", "training.save_strategy=no", options=("--max-restarts", "1"))
    run.until("step 1/")
    there = set(processes_of("again", 1))
    mpirun = [pid for pid in processes_of("again") if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() in ("mpirun", "orterun", "prterun")]
    os.kill(mpirun[0], signal.SIGKILL)
    run.until("Restart 1 of 1")
    check(there and not there & set(processes_of("again")), "where mpirun is killed, the rank on the other host is gone before the restart", run)
    run.until("step 1/")
    launcher = [pid for pid in processes_of("again") if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "dsft"]
    os.kill(launcher[0], signal.SIGTERM)
    code, _ = run.end()
    check(code == 75, "and the restart runs", run)


def check_run(folder, recipe):
    local = subprocess.run([DSFT, "launch", "--num-procs", "2", recipe, f"output_dir={folder}/local"], capture_output=True, text=True,
                           env=dict(os.environ, DSFT_CACHE=str(folder / "cache"), OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES=""))
    assert local.returncode == 0, local.stderr
    os.environ["MY_OWN_VARIABLE"] = "two words, 'quoted'"
    run = Run(folder, recipe, "whole", options=("--log-dir", str(folder / "logs")))
    run.until("step 1/")
    ranks = processes_of("whole", 1)
    variables = pathlib.Path(f"/proc/{ranks[0]}/environ").read_text().split("\0")
    namespaces = [subprocess.run(["ip", "netns", "identify", str(pid)], capture_output=True, text=True).stdout.strip() for pid in ranks]
    code, _ = run.end()
    check(code == 0, "a run over two hosts ends", run)
    check(namespaces == [NAMES[1]], "rank 1 was on the other host", run)
    check("MY_OWN_VARIABLE=two words, 'quoted'" in variables, "the caller's variables are there", run)
    same = (folder / "run/adapter_model.safetensors").read_bytes() == (folder / "local/adapter_model.safetensors").read_bytes()
    check(same and curve(folder / "run") == curve(folder / "local"), "losses and weights are those of a run on one host", run)
    check((folder / "logs/rank.1/stderr").exists(), "its output lies where the run was started", run)


def main():
    make_hosts()
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            recipe = make_job(folder, 30)
            (folder / "agent").write_text(AGENT.replace("NAME", NAMES[1]))
            (folder / "agent").chmod(0o755)
            (folder / "hosts").write_text("".join(f"{address} slots=1\n" for address in ADDRESSES))
            check_run(folder, recipe)
            check_faults(folder, recipe)
            check_restart(folder, recipe)
    except AssertionError as error:
        sys.exit(str(error))
    finally:
        remove_hosts()


if __name__ == "__main__":
    main()
