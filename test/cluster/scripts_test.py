#!/usr/bin/env python3
"""What the scripts of scripts/cluster need no cluster for: the check of hosts before a launch, and what goes into containers."""
import fnmatch
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]


def check(condition, what, details=""):
    if not condition:
        sys.exit(f"{what}\n{details}")
    print(f"ok: {what}", flush=True)


def check_hostfile_launch(folder):
    """With an ssh that notes the host, and a dsft that says its version and its arguments."""
    for name, text in (("ssh", f'#!/bin/sh\nfor word; do case $word in node*) echo "$word" >> {folder}/hosts.log; esac; done\necho "dsft 1"\n'),
                       ("dsft", '#!/bin/sh\n[ "$1" = --version ] && echo "dsft 1" || echo "$@"\n')):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "hosts").write_text("# two\nnode1 slots=1\nnode2 slots=1")  # no newline at its end
    run = subprocess.run(["bash", ROOT / "scripts/cluster/hostfile_launch.sh", "hosts", "recipe.yaml"], cwd=folder, capture_output=True, text=True,
                         env=dict(os.environ, PATH=f"{folder}:{os.environ['PATH']}"))
    check(run.returncode == 0 and "launch --hostfile hosts" in run.stdout, "a launch begins when all hosts are reached", run.stdout + run.stderr)
    check((folder / "hosts.log").read_text().split() == ["node1", "node2"], "every host is checked, the last line's too")


def check_containers():
    """A build of this machine, configured for its paths, would break the one inside of the image."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    removed = next(line.split()[2:] for line in (ROOT / "scripts/cluster/dsft.def").read_text().splitlines() if line.strip().startswith("rm -rf build"))
    for name in ["build", "build-nocuda", ".venv", ".venv-peers", "models", "data", "runs", ".git"]:
        for where, kept_out in ((".dockerignore", patterns), ("dsft.def", removed)):
            check(any(fnmatch.fnmatch(name, pattern) for pattern in kept_out), f"{where} keeps {name} out")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    lost = [name for name in tracked if any(fnmatch.fnmatch(name.split("/")[0], pattern) for pattern in patterns)]
    check(not lost, "nothing that belongs to the repository is kept out", lost)


def main():
    with tempfile.TemporaryDirectory() as name:
        check_hostfile_launch(pathlib.Path(name))
    check_containers()


if __name__ == "__main__":
    main()
