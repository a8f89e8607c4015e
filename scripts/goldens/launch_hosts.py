"""Writes test/fixtures/launch/hosts.tsv: what DeepSpeed's launcher makes of hostfiles, --include and --exclude.

A line is: hostfile (\\n between its lines), --include, --exclude, result, separated by tabs. The result is HOST:SLOT,SLOT@HOST:SLOT or "error".
Needs deepspeed==0.19.8:  python scripts/goldens/launch_hosts.py
"""
import logging
import os
import pathlib

os.environ.setdefault("DS_ACCELERATOR", "cpu")
from deepspeed.launcher import runner  # noqa: E402

TWO = "a slots=4\nb slots=2"
THREE = "worker-0 slots=8\nworker-1 slots=8\nworker-2 slots=8"
CASES = [
    (TWO, "", ""),
    ("# comment\n\n  node1   slots=3  \n#node2 slots=1\nnode-3.x.y slots=1", "", ""),
    ("a\tslots=2", "", ""),
    ("a slots=2 max_slots=4", "", ""),
    ("a slots=1 # the login node", "", ""),
    ("10.0.0.1 slots=2\n10.0.0.2 slots=2", "10.0.0.2", ""),
    ("a", "", ""),
    ("a slots", "", ""),
    ("a slots=", "", ""),
    ("a slots=x", "", ""),
    ("a slots=-1", "", ""),
    ("a slots = 2", "", ""),
    ("a: 4", "", ""),
    ("a slot=2", "", ""),
    ("slots=2", "", ""),
    ("a slots=2\na slots=2", "", ""),
    ("a slots=2\nb 2", "", ""),
    ("", "", ""),
    ("# nothing", "", ""),
    (THREE, "worker-1", ""),
    (THREE, "worker-1:0,3", ""),
    (THREE, "worker-2:0,3@worker-0", ""),
    (THREE, "worker-1:3,0,3", ""),
    (THREE, "worker-2@worker-1@worker-0", ""),
    (THREE, "", "worker-1"),
    (THREE, "", "worker-1:0"),
    (THREE, "", "worker-1:0,1,2,3,4,5,6@worker-2"),
    (THREE, "", "worker-0:0,1,2,3,4,5,6,7"),
    (THREE, "", "worker-2:7@worker-0:0"),
    (THREE, "worker-3", ""),
    (THREE, "worker-0:8", ""),
    (THREE, "worker-0:x", ""),
    (THREE, "worker-0:", ""),
    (THREE, "worker-0:0@", ""),
    (THREE, "@worker-0", ""),
    (THREE, "worker-0:0:1", ""),
    (THREE, "worker-0:0,", ""),
    (THREE, "worker-0:-1", ""),
    (THREE, "", "worker-9"),
    (THREE, "", "worker-0:9"),
    (THREE, "worker-0", "worker-1"),
    (THREE, "worker-0: 1", ""),
    (TWO, "b:1@a:2", ""),
    (TWO, "", "a:0,1@b:0"),
]


def resolve(text, include, exclude):
    try:
        pool = runner._parse_hostfile(text.split("\n"))
        hosts = runner.parse_inclusion_exclusion(pool, include, exclude)
    except ValueError:
        return "error"
    return "@".join(f"{host}:{','.join(map(str, slots))}" for host, slots in hosts.items())


def main():
    runner.logger.setLevel(logging.CRITICAL)
    lines = ["\t".join([text.replace("\t", "\\t").replace("\n", "\\n"), include, exclude, resolve(text, include, exclude)]) for text, include, exclude in CASES]
    path = pathlib.Path(__file__).parents[2] / "test/fixtures/launch/hosts.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    print(f"{path}: {len(lines)} cases")


if __name__ == "__main__":
    main()
