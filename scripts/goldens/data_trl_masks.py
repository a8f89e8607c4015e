#!/usr/bin/env python3
"""Compares the supervised tokens of `dsft preview` with TRL's assistant masks, on every training template (with {% generation %}) of the pinned trl.

Prints one line per template and ends with 1 where ids differ, or where labels differ otherwise than dsft means them to: tokens of the generation prompt
are never supervised, and a turn's stop token always is.
Usage: data_trl_masks.py DSFT TOKENIZER_DIR (with the Python that has the pinned peers)
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import trl
from transformers import AutoTokenizer

IGNORED = -100
TURNS = [
    dict(role="user", content="What is the capital of France?"),
    dict(role="assistant", content="Paris."),
    dict(role="user", content="And of Italy?"),
    dict(role="assistant", content="Rome, of course.\nIt is sunny."),
]


def preview(dsft, folder, tokenizer, chat_template, rows):
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = folder / "recipe.yaml"
    recipe.write_text(json.dumps(dict(recipe="sft", output_dir=str(folder / "out"), model=dict(path=str(tokenizer)), data=dict(train=[str(data)], chat_template=str(chat_template)))))
    environment = dict(os.environ, DSFT_CACHE=str(folder / "cache"))
    run = subprocess.run([dsft, "preview", str(recipe), "--json", "--rows", "100"], capture_output=True, text=True, env=environment)
    return json.loads(run.stdout) if run.returncode == 0 else run.stderr.strip().splitlines()[-1]


def describe(tokenizer, ids, labels):
    return "".join(f"⟦{tokenizer.decode([i])}⟧" if l != IGNORED else tokenizer.decode([i]) for i, l in zip(ids, labels)).replace("\n", "\\n")


def main():
    dsft, directory = sys.argv[1:]
    tokenizer = AutoTokenizer.from_pretrained(directory)
    failed = False
    for path in sorted((pathlib.Path(trl.__file__).parent / "chat_templates").glob("*_training.jinja")):
        source = path.read_text()
        try:
            out = tokenizer.apply_chat_template(TURNS, chat_template=source, return_dict=True, return_assistant_tokens_mask=True)
        except Exception as error:  # a template that wants another processor's tokens or parts
            print(f"{path.stem}: the peer cannot render it ({type(error).__name__})")
            continue
        ids = list(out["input_ids"])
        theirs = [i if m else IGNORED for i, m in zip(ids, out["assistant_masks"])]
        theirs[0] = IGNORED
        with tempfile.TemporaryDirectory() as folder:
            rows = preview(dsft, pathlib.Path(folder), directory, path, [dict(messages=TURNS)])
        if isinstance(rows, str):
            print(f"{path.stem}: refused: {rows}")
            continue
        ours = rows[0]["labels"]
        if rows[0]["token_ids"] != ids:
            print(f"{path.stem}: ids differ")
            failed = True
        elif ours == theirs:
            print(f"{path.stem}: equal, {sum(l != IGNORED for l in ours)} of {len(ours)} supervised")
        else:
            print(f"{path.stem}: labels differ\n  ours   {describe(tokenizer, ids, ours)}\n  theirs {describe(tokenizer, ids, theirs)}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
