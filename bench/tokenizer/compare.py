"""Measures dsft's tokenizer beside Hugging Face's tokenizers: both on one thread, on the same texts, in one run.

Usage: python bench/tokenizer/compare.py MODEL_DIR [--bench build/bin/tokenizer_bench] [--megabytes 8] [--texts FILE.jsonl]
Without --texts the corpus is this repository's own prose and code plus random multilingual text.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
import tokenizers  # noqa: E402

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts/parity"))
from tokenizer import random_text  # noqa: E402


def corpora(megabytes):
    """name -> texts"""
    rng = random.Random(0)
    files = [p for pattern in ("lib/**/*.cpp", "lib/**/*.h", "scripts/**/*.py", "docs/**/*.md", "*.md", "/usr/include/c++/*/bits/*.h") for p in
             (pathlib.Path("/").glob(pattern[1:]) if pattern[0] == "/" else ROOT.glob(pattern))]
    own = "\n".join(p.read_text(errors="ignore") for p in sorted(files))
    own = (own * (1 + int(megabytes * 1e6) // max(len(own), 1)))[: int(megabytes * 1e6)]
    random_texts = []
    while sum(map(len, random_texts)) < megabytes * 2e5:
        random_texts.append(random_text(rng, []))
    return {"code and prose, texts of 4 KB": [own[i : i + 4096] for i in range(0, len(own), 4096)], "random multilingual": random_texts}


def time_reference(tokenizer, texts):
    best = 1e9
    for _ in range(2):
        start = time.perf_counter()
        for text in texts:
            tokenizer.encode(text)
        best = min(best, time.perf_counter() - start)
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--bench", default=str(ROOT / "build/bin/tokenizer_bench"))
    parser.add_argument("--megabytes", type=float, default=8)
    parser.add_argument("--texts")
    args = parser.parse_args()
    start = time.perf_counter()
    reference = tokenizers.Tokenizer.from_file(args.model + "/tokenizer.json")
    load_s = time.perf_counter() - start
    sets = {args.texts: [json.loads(line) for line in open(args.texts)]} if args.texts else corpora(args.megabytes)
    for name, texts in sets.items():
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
            file.write("".join(json.dumps(text) + "\n" for text in texts))
            file.flush()
            own = json.loads(subprocess.run([args.bench, args.model, file.name], check=True, capture_output=True).stdout)
        speed = sum(len(t.encode()) for t in texts) / time_reference(reference, texts) / 1e6
        print(f"{name}: dsft {own['mb_per_s']:.1f} MB/s, tokenizers {tokenizers.__version__} {speed:.1f} MB/s, ratio {own['mb_per_s'] / speed:.1f}; "
              f"load {own['load_s'] * 1e3:.0f} ms against {load_s * 1e3:.0f} ms")


main()
