#!/usr/bin/env python3
"""The scripts of scripts/cluster with an srun and an scontrol that stand in for Slurm's, and the real dsft."""
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts/cluster"
sys.path.insert(0, str(ROOT / "scripts"))
from random_faults import DSFT, MARK, curve, make_job, processes_of  # noqa: E402

# srun: SLURM_NTASKS tasks with the variables that Slurm sets; unless --kill-on-bad-exit=0 says otherwise all are killed when one ends with a code
# that is not 0 (KillOnBadExit of a cluster's slurm.conf), and --wait seconds after the first has ended; ends with the highest code
SRUN = """#!/usr/bin/env python3
import os, subprocess, sys, time
words, options = sys.argv[1:], {}
while words[0].startswith("-"):
    name, _, value = words.pop(0).partition("=")
    options[name] = value
bad_exits_kill, wait, first_end = options.get("--kill-on-bad-exit") != "0", float(options.get("--wait", "inf")), None
size = int(os.environ["SLURM_NTASKS"])
tasks = [subprocess.Popen(words, env=dict(os.environ, SLURM_PROCID=str(i), SLURM_LOCALID=str(i), SLURM_STEP_NUM_TASKS=str(size), SLURM_STEP_ID="0",
                                          SLURM_STEP_NODELIST="localhost")) for i in range(size)]
import signal
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
while any(task.poll() is None for task in tasks):
    codes = [task.poll() for task in tasks]
    if first_end is None and any(code is not None for code in codes):
        first_end = time.time()
    is_late = first_end is not None and time.time() - first_end > wait
    if is_late or (bad_exits_kill and any(codes)):
        [task.kill() for task in tasks]
    time.sleep(0.001)
sys.exit(max(task.wait() % 256 for task in tasks))
"""
SCONTROL = """#!/bin/sh
echo "$*" >> "$SCONTROL_LOG"
"""


def check(condition, what, details=""):
    if not condition:
        sys.exit(f"{what}\n{details}")
    print(f"ok: {what}", flush=True)


def submit(folder, script, mark, *words, **variables):
    environment = dict(os.environ, PATH=f"{folder}/bin:{DSFT.parent}:{os.environ['PATH']}", DSFT_CACHE=str(folder / "cache"), OMP_NUM_THREADS="1",
                       CUDA_VISIBLE_DEVICES="", SCONTROL_LOG=str(folder / "scontrol.log"), SLURM_JOB_ID=str(os.getpid()), SLURM_NTASKS="2", **{MARK: mark}, **variables)
    return subprocess.Popen(["bash", SCRIPTS / script, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def read_until(job, text):
    lines = []
    for line in job.stdout:
        lines.append(line)
        if text in line:
            return lines
    check(False, f"'{text}' never came", "".join(lines))


def check_script(folder, recipe, script, expected, tells_tasks, **variables):
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    job = submit(folder, script, script, str(recipe), **variables)
    output, _ = job.communicate(timeout=120)
    check(job.returncode == 0 and (run / "adapter_model.safetensors").read_bytes() == expected[1], f"{script} trains as `dsft launch` does", output)

    shutil.rmtree(run)
    job = submit(folder, script, "asked", str(recipe), **variables)
    lines = read_until(job, "step 1/")
    if tells_tasks:
        tasks = [pid for pid in processes_of("asked") if "dsft-trainer" in pathlib.Path(f"/proc/{pid}/cmdline").read_text()]
        for task in tasks:
            os.kill(task, signal.SIGUSR1)
    os.kill(job.pid, signal.SIGUSR1)
    output, _ = job.communicate(timeout=60)
    log = (folder / "scontrol.log").read_text() if (folder / "scontrol.log").exists() else ""
    check(job.returncode == 0 and log == f"requeue {os.getpid()}\n", f"{script} goes back into the queue when its time is over", "".join(lines) + output + log)
    check(len(curve(run)) < len(expected[0]), "the run was not over by then")
    (folder / "scontrol.log").unlink()
    job = submit(folder, script, "again", str(recipe), SLURM_RESTART_COUNT="1", **variables)
    output, _ = job.communicate(timeout=120)
    same = curve(run) == expected[0] and (run / "adapter_model.safetensors").read_bytes() == expected[1]
    check(job.returncode == 0 and same, f"{script} goes on when it is started again", output)

    job = submit(folder, script, "faulty", str(recipe), "training.no_such_key=1", **variables)
    output, _ = job.communicate(timeout=60)
    check(job.returncode == 2 and "no_such_key" in output and not (folder / "scontrol.log").exists(), f"{script} ends with a fault's code, and is not queued again", output)
    check(not processes_of("asked"), "no process is left")


def main():
    scripts = sorted(SCRIPTS.glob("*.sbatch")) + sorted(SCRIPTS.glob("*.sh"))
    if shutil.which("shellcheck"):
        found = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True)
        check(found.returncode == 0, "shellcheck finds nothing", found.stdout)
    else:
        print("shellcheck is not installed: the scripts were not looked through")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        recipe = make_job(folder, 60)
        (folder / "bin").mkdir()
        for program, text in (("srun", SRUN), ("scontrol", SCONTROL)):
            (folder / "bin" / program).write_text(text)
            (folder / "bin" / program).chmod(0o755)
        whole = submit(folder, "slurm_one_node.sbatch", "whole", str(recipe), f"output_dir={folder}/whole", DSFT_LAUNCH_OPTIONS="--num-procs 2")
        output, _ = whole.communicate(timeout=120)
        check(whole.returncode == 0, "a run without Slurm's signals ends", output)
        expected = (curve(folder / "whole"), (folder / "whole/adapter_model.safetensors").read_bytes())
        check_script(folder, recipe, "slurm_one_node.sbatch", expected, tells_tasks=False, DSFT_LAUNCH_OPTIONS="--num-procs 2")
        check_script(folder, recipe, "slurm_nodes.sbatch", expected, tells_tasks=True)


if __name__ == "__main__":
    main()
