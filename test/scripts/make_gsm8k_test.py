#!/usr/bin/env python3
"""scripts/make_gsm8k.py makes rows of a grpo recipe of GSM8K's, and says what is wrong with files that are none."""
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
QUESTION = "Natalia sold clips to 48 of her friends in April, and then she sold half as many in May. How many did she sell altogether?"
ANSWER = "She sold 48/2 = <<48/2=24>>24 clips in May.\nAltogether 48+24 = <<48+24=72>>72 clips – “all” of them.\n#### 72"


def check(condition, what, details=""):
    if not condition:
        sys.exit(f"{what}\n{details}")
    print(f"ok: {what}", flush=True)


def make(folder, *arguments):
    return subprocess.run([sys.executable, ROOT / "scripts/make_gsm8k.py", *arguments], cwd=folder, capture_output=True, text=True, check=False)


def check_rows(folder):
    row = json.dumps({"question": QUESTION, "answer": ANSWER})
    (folder / "train.jsonl").write_text(f"{row}\n\n{row}\n", encoding="utf-8")
    (folder / "test.jsonl").write_text(row, encoding="utf-8")  # no newline at its end
    run = make(folder, "train.jsonl", "test.jsonl")
    check(run.returncode == 0 and "data/gsm8k/train.jsonl: 2 rows" in run.stdout, "two files are made", run.stdout + run.stderr)
    expected = {"prompt": [{"role": "user", "content": QUESTION}], "answer": ANSWER}
    for name, count in (("train.jsonl", 2), ("test.jsonl", 1)):
        rows = [json.loads(line) for line in (folder / "data/gsm8k" / name).read_text(encoding="utf-8").splitlines()]
        check(rows == [expected] * count, f"{name} has the questions as messages and the answers as they are", rows)


def check_faults(folder):
    good = json.dumps({"question": "2 + 2?", "answer": "#### 4"}) + "\n"
    (folder / "good.jsonl").write_text(good)
    for text, fault in ((good + "{", "bad.jsonl:2: no JSON"), (good + "[1]", "bad.jsonl:2: a row is a JSON object, not [1]"),
                        ('{"prompt": "2 + 2?", "answer": "#### 4"}', 'bad.jsonl:1: the row has no "question", but answer, prompt'),
                        ('{"question": "2 + 2?"}', 'bad.jsonl:1: the row has no "answer"'), ('{"question": " ", "answer": "#### 4"}', '"question" must be a text'),
                        ('{"question": "2 + 2?", "answer": 4}', '"answer" must be a text'), ('{"question": "2 + 2?", "answer": "4"}', "has no ####"),
                        ("\n", "bad.jsonl has no rows"), (b"PAR1\xff\xfe", "is no text in UTF-8")):
        (folder / "bad.jsonl").write_bytes(text if isinstance(text, bytes) else text.encode())
        run = make(folder, "good.jsonl", "bad.jsonl", "--output", "made")
        check(run.returncode == 1 and fault in run.stderr and run.stderr.count("\n") == 1, fault, run.stdout + run.stderr)
        check(not (folder / "made").exists(), "nothing is written then")
    for arguments, fault in ((["none.jsonl"], "none.jsonl cannot be read: No such file"), (["good.jsonl", "--output", "."], "lies where it would be written to"),
                             (["good.jsonl", "./good.jsonl"], "would both be written to"), (["good.jsonl", "--output", "good.jsonl"], "cannot be written")):
        run = make(folder, *arguments)
        check(run.returncode == 1 and fault in run.stderr and run.stderr.count("\n") == 1, fault, run.stdout + run.stderr)
    check((folder / "good.jsonl").read_text() == good, "what is read stays as it was")


def main():
    for part in (check_rows, check_faults):
        with tempfile.TemporaryDirectory() as name:
            part(pathlib.Path(name))


if __name__ == "__main__":
    main()
