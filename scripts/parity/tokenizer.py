"""Compares dsft's tokenizer with Hugging Face's tokenizers on a random multilingual corpus.

Usage: python scripts/parity/tokenizer.py MODEL_DIR [--bench build/bin/tokenizer_bench] [--num-texts 20000] [--seed 0]
Ids, offsets (in characters, untrimmed) and decoded text must be equal for every text; prints the figures and ends with 1 if any differs.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import tokenizers

# (first, last) code points of scripts and symbols that text in the wild mixes
BLOCKS = [(0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF), (0x590, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F),
          (0x1100, 0x11FF), (0x1E00, 0x1EFF), (0x2000, 0x206F), (0x2070, 0x209F), (0x20A0, 0x20BF), (0x2100, 0x218F), (0x2600, 0x27BF), (0x3000, 0x30FF), (0x4E00, 0x4FFF),
          (0xAC00, 0xACFF), (0xFB00, 0xFB4F), (0xFE00, 0xFE0F), (0xFF00, 0xFFEF), (0x1D400, 0x1D4FF), (0x1F300, 0x1F6FF), (0x1F900, 0x1F9FF), (0xE0100, 0xE01EF)]
WORDS = ("the of and to in is you that it function return import def class int void for while self None True value don't I'll we've they're it's she'd I'm DON'T "
         "été naïve Größe façade señor привет мир как дела это 你好 世界 中文 日本語 こんにちは 안녕하세요 مرحبا بالعالم שלום नमस्ते दुनिया สวัสดี Việt Nam").split()
SPACES = [" ", " ", " ", " ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", " \n ", "\u00a0", "\u2003", "\u3000", "\u0085", "\u200b", "        "]
EMOJI = ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🇩🇪", "❤️", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"]
CODE = ["if (x == 0) { return -1; }", "for i in range(10):\n    print(i)\n", "a[i]+=b->c;", "// comment", "'''doc'''", "x=1e-5", "https://example.com/a?b=c&d=%20", "{\"key\": [1, 2.5, null]}", "<div class=\"x\">"]


def random_text(rng, special):
    parts = []
    for _ in range(rng.choice([1, 3, 10, 40, 200])):
        kind = rng.random()
        if kind < 0.45:
            parts.append(rng.choice(WORDS) + rng.choice(SPACES))
        elif kind < 0.6:
            first, last = rng.choice(BLOCKS)
            parts.append("".join(chr(rng.randint(first, last)) for _ in range(rng.randint(1, 8))))
        elif kind < 0.68:
            parts.append(str(rng.randint(0, 10 ** rng.randint(1, 9))))
        elif kind < 0.76:
            parts.append(rng.choice(SPACES) * rng.randint(1, 3))
        elif kind < 0.84:
            parts.append(rng.choice(EMOJI) * rng.randint(1, 2))
        elif kind < 0.92:
            parts.append(rng.choice(CODE))
        elif kind < 0.96 and special:
            parts.append(rng.choice(special))
        else:
            c = rng.randrange(0x110000)
            parts.append(chr(c) if not 0xD800 <= c < 0xE000 else "\ufffd")
    return "".join(parts)


def to_characters(text, begins, ends):
    """Byte offsets to character offsets; a token that is part of a character counts as all of it."""
    character = []
    for i, c in enumerate(text):
        character += [i] * len(c.encode())
    character.append(len(text))
    return [(character[b], character[e - 1] + 1 if e > b else character[e]) for b, e in zip(begins, ends)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--bench", default="build/bin/tokenizer_bench")
    parser.add_argument("--num-texts", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)

    description = json.loads((pathlib.Path(args.model) / "tokenizer.json").read_text())
    # offsets that name all bytes of a token are wanted: switch the trimming off, which changes no id
    processors = [description["post_processor"]] if description["post_processor"] else []
    for processor in processors:
        processor["trim_offsets"] = False
        processors += processor.get("processors", [])
    reference = tokenizers.Tokenizer.from_str(json.dumps(description))
    texts = [random_text(rng, [t["content"] for t in description["added_tokens"]]) for _ in range(args.num_texts)]
    is_normalized = description["normalizer"] is not None
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.write("".join(json.dumps(text) + "\n" for text in texts))
        file.flush()
        output = subprocess.run([args.bench, args.model, file.name, "--dump"], check=True, capture_output=True, text=True).stdout
    wrong = {"ids": 0, "offsets": 0, "decoded": 0}
    num_tokens = 0
    for text, line in zip(texts, output.split("\n")):
        own, expected = json.loads(line), reference.encode(text)
        num_tokens += len(expected.ids)
        faults = []
        if own["ids"] != expected.ids:
            faults.append("ids")
        # a byte that the vocabulary lacks has no token; the reference's offsets are shifted after it
        elif not is_normalized and own["decoded"] == text and to_characters(text, own["begins"], own["ends"]) != expected.offsets:
            faults.append("offsets")
        if own["decoded"] != reference.decode(own["ids"], skip_special_tokens=False):
            faults.append("decoded")
        for fault in faults:
            wrong[fault] += 1
            if wrong[fault] <= 3:
                print(fault, "differ for", ascii(text)[:300], own["ids"][:50], expected.ids[:50], file=sys.stderr)
    print(f"{args.model}: {len(texts)} texts, {sum(len(t.encode()) for t in texts) / 1e6:.1f} MB, {num_tokens} tokens; "
          f"different ids {wrong['ids']}, offsets {'not compared (normalizer)' if is_normalized else wrong['offsets']}, decoded {wrong['decoded']}")
    sys.exit(any(wrong.values()))


if __name__ == "__main__":
    main()
