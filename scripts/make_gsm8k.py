#!/usr/bin/env python3
"""Makes data/gsm8k/{train,test}.jsonl, which recipes name, of GSM8K's own files of the same names.

They are in https://github.com/openai/grade-school-math under grade_school_math/data (MIT licence); this script loads nothing. A row there is
{"question": "...", "answer": "... #### 42"}; here it is {"prompt": [{"role": "user", "content": "..."}], "answer": "... #### 42"}, as
`recipe: grpo` reads it: the prompt is asked, and the reward math_answer compares with what stands behind ####.

    python3 scripts/make_gsm8k.py DIR/train.jsonl DIR/test.jsonl [--output data/gsm8k]
"""
import argparse
import json
import sys
from pathlib import Path

from row_files import write_rows


def stop(message):
    sys.exit(f"make_gsm8k.py: {message}")


def text_of(row, field, place):
    if field not in row:
        stop(f"{place}: the row has no \"{field}\", but {', '.join(sorted(row)) or 'nothing'}; GSM8K's rows are {{\"question\", \"answer\"}}")
    if not isinstance(row[field], str) or not row[field].strip():
        stop(f"{place}: \"{field}\" must be a text that is not empty")
    return row[field]


def read_rows(path):
    """The rows of one of GSM8K's files as those of a recipe."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        stop(f"{path} cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        stop(f"{path} is no text in UTF-8; GSM8K's own files are .jsonl (Parquet is not read)")
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            stop(f"{place}: no JSON: {error}")
        if not isinstance(row, dict):
            stop(f"{place}: a row is a JSON object, not {json.dumps(row)[:60]}")
        question, answer = text_of(row, "question", place), text_of(row, "answer", place)
        if "####" not in answer:
            stop(f"{place}: \"answer\" has no ####, behind which GSM8K has the result")
        rows.append({"prompt": [{"role": "user", "content": question}], "answer": answer})
    if not rows:
        stop(f"{path} has no rows")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, help="GSM8K's train.jsonl and test.jsonl; each keeps its name")
    parser.add_argument("--output", type=Path, default=Path("data/gsm8k"), help="folder (default: data/gsm8k)")
    options = parser.parse_args()
    targets = {}
    for path in options.files:
        target = options.output / path.name
        if target in targets:
            stop(f"{targets[target]} and {path} would both be written to {target}; give one of them another name")
        if target.exists() and path.exists() and target.samefile(path):
            stop(f"{path} lies where it would be written to; move it, or name another folder with --output")
        targets[target] = path
    made = {target: read_rows(path) for target, path in targets.items()}  # all are read before one is written
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        for target, rows in made.items():
            write_rows(target, rows)
            print(f"{target}: {len(rows)} rows")
    except OSError as error:
        stop(f"{options.output} cannot be written: {error.strerror}")


if __name__ == "__main__":
    main()
