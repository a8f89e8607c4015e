"""Writes test/fixtures/text/oniguruma.json: how the tokenizers library (Oniguruma) splits texts by expressions that mean something else to PCRE2.

Run with the pinned peers: python scripts/goldens/oniguruma.py
"""
import json
import pathlib

from tokenizers import Regex, pre_tokenizers

OUT = pathlib.Path(__file__).resolve().parents[2] / "test/fixtures/text/oniguruma.json"
TEXTS = ["नमस्ते a_b‿c", "a\na b\nab\n", "ab(c|d) [e], f", "中、文ーか", "the 12fe\tzz", "x-y aaaa", "Ⅷ²٣ ❤️"]
EXPRESSIONS = [
    r"\w+", r"\W+", r"\ba", r"\B.", r"[\w-]+", "^a", "b$", "a$", r"\Ax", r"b\n\Z", r"b\z", " ?[^(\\s|[.,!?…。，、।۔،])]+", "[a[bc]]+", r"\h+", r"\H+", r"[\hx]+",
    r"\p{Han}+", r"\P{Han}+", r"\p{^Han}+", r"\p{Hiragana}", "a{,2}", "[[:alpha:]]+", "[[:alnum:]]+", "[[:digit:]]+", "[[:upper:]]", "[[:space:]]+", "[[:punct:]]+", "[[:word:]]+", "[[:lower:]]+", "[[:blank:]_]+", "[^[:alpha:]]+", "(?i:A)b", r"\d+",
    r"\s+", r"[^\s]+", ".+", r"\R", "a++", "[]a]", "(?<n>a)", "a{1,2}?",
]


def split(expression, text):
    return [part for part, _ in pre_tokenizers.Split(Regex(expression), "isolated").pre_tokenize_str(text)]


def main():
    cases = [{"expression": expression, "text": text, "parts": split(expression, text)} for expression in EXPRESSIONS for text in TEXTS]
    OUT.write_text(json.dumps(cases, ensure_ascii=False, indent=0) + "\n")
    print(OUT)


main()
