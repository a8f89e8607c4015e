"""Writes lib/text/unicode_ranges.inc: the character classes as Hugging Face's tokenizers sees them.

The classes decide token ids, so they are asked from the library itself instead of from a Unicode version of our own choice.
Usage: python scripts/goldens/make_unicode_ranges.py   (needs the package tokenizers)
"""

import pathlib
import unicodedata

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
ALL = "".join(map(chr, CODE_POINTS))


def matched(pattern):
    split = pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)
    return {ord(c) for piece, _ in split.pre_tokenize_str(ALL) for c in piece}


def numeric():
    """What the Digits pre-tokenizer calls a digit; its Unicode version is not that of the regular expressions."""
    digits = pre_tokenizers.Digits(individual_digits=True).pre_tokenize_str("".join("x" + chr(c) for c in CODE_POINTS))
    return {ord(piece) for piece, _ in digits if len(piece) == 1 and piece != "x"}


def single_word_neighbours():
    """Characters beside which a single_word added token is not recognised."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.add_tokens([tokenizers.AddedToken("\x01\x02", single_word=True, normalized=False)])
    tokenizer.add_tokens([tokenizers.AddedToken("\x03\x04", normalized=False)])
    found = {o[0] for o in tokenizer.encode("".join(chr(c) + "\x01\x02\x03\x04" for c in CODE_POINTS)).offsets}
    return {c for i, c in enumerate(CODE_POINTS) if 5 * i + 1 not in found}


def nfc_sensitive():
    """Characters that NFC may change or join to the character before them."""
    nfc, nfd = normalizers.NFC(), normalizers.NFD()
    result = set()
    for c in CODE_POINTS:
        char = chr(c)
        if unicodedata.combining(char) or nfc.normalize_str(char) != char:
            result.add(c)
        decomposed = nfd.normalize_str(char)
        if decomposed != char:
            result.add(ord(decomposed[-1]))
    return result


def ranges(points):
    result = []
    for c in sorted(points):
        if result and result[-1][1] == c - 1:
            result[-1][1] = c
        else:
            result.append([c, c])
    return result


classes = {
    "kNumeric": numeric(),
    "kLetter": matched(r"\p{L}+"),
    "kNumber": matched(r"\p{N}+"),
    "kMark": matched(r"\p{M}+"),
    "kPunctuation": matched(r"\p{P}+"),
    "kSpace": matched(r"\s+"),
    "kWord": single_word_neighbours(),
    "kNfcSensitive": nfc_sensitive(),
}

out = pathlib.Path(__file__).parents[2] / "lib/text/unicode_ranges.inc"
with out.open("w") as f:
    f.write(f"// Written by scripts/goldens/make_unicode_ranges.py from tokenizers {tokenizers.__version__}; do not edit.\n")
    f.write("// clang-format off\n")
    for name, points in classes.items():
        items = [f"{{{a:#x},{b:#x},{name}}}" for a, b in ranges(points)]
        print(name, len(points), "code points,", len(items), "ranges")
        for i in range(0, len(items), 5):
            f.write(",".join(items[i : i + 5]) + ",\n")
