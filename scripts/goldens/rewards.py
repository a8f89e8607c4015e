"""Writes test/fixtures/rewards/built_in.json: what Python's own functions give where dsft's built-in rewards must give the same: difflib, re, json, TRL's
reward functions, and math_verify (by which TRL's accuracy_reward judges) for answers in mathematics.

Run with the pinned peers and math-verify 0.9.0 (pip install --target DIR math-verify==0.9.0): PYTHONPATH=DIR python scripts/goldens/rewards.py
"""
import difflib
import json
import pathlib
import random
import re

from math_verify import parse, verify
from trl.rewards import get_repetition_penalty_reward, get_soft_overlong_punishment, think_format_reward

OUT = pathlib.Path(__file__).resolve().parents[2] / "test/fixtures/rewards/built_in.json"
RANDOM = random.Random(6)


def random_text(alphabet, length):
    return "".join(RANDOM.choice(alphabet) for _ in range(length))


def similarity():
    texts = ["", "a", "abc", "abcd", "bcde", "The answer is 42.", "the answer was 24!", "naïve café", "naive cafe", "日本語のテキスト", "日本のテスト", "🙂🙃🙂", "🙃🙂", "ab" * 40, "ba" * 40,
             "qabxcd", "abycdf", "private Thread currentThread;", "private volatile Thread currentThread;", " abcd", "abcd abcd"]
    pairs = [(a, b) for a in texts for b in texts]
    words = "the of and model reward answer step number because therefore x = 3 + 4 is seven".split()
    prose = [" ".join(RANDOM.choice(words) for _ in range(n)) for n in (30, 45, 60, 200)]
    # at and around the 200 characters from which difflib drops popular ones
    long = [random_text(alphabet, n) for alphabet in ("ab", "abcdefghij", "".join(map(chr, range(0x4E00, 0x4E80)))) for n in (199, 200, 201, 450)]
    pairs += [(a, b) for a in prose for b in prose] + list(zip(long, reversed(long))) + list(zip(long, long[1:])) + [(prose[3], long[7]), (long[3][:150] + prose[2], prose[2] + long[3])]
    return [[a, b, junk, difflib.SequenceMatcher(None, a, b, autojunk=junk).ratio()] for a, b in pairs for junk in ((True, False) if len(b) >= 200 else (True,))]


def think():
    texts = ["<think>a</think>b", "<think>a\nb</think>\nc", "<think></think>", "<think>a", "a<think>b</think>", "\n<think>a</think>", " <think>a</think>", "<think>a</think><think>b</think>",
             "<think>a<think>b</think>", "<think>a</think>b</think>", "x\n<think>a</think>", "<Think>a</Think>", "<think>a</ think>", "<think >a</think>", "", "<think>ü\r\n</think>🙂\n\n", "<think>a</think>\n<think>"]
    return [[text, think_format_reward([[{"role": "assistant", "content": text}]])[0]] for text in texts]


def tags():
    cases = []
    for names in (["think"], ["think", "answer"], ["reasoning", "think", "answer"], ["a.b"]):
        expression = "^" + r"\s*".join(f"<{re.escape(n)}>(?!.*<{re.escape(n)}>)(.*?)</{re.escape(n)}>" for n in names) + ".*$"
        for text in ("<think>a</think><answer>b</answer>", "<think>a</think>\n\n<answer>b\n</answer>\n", "<think>a</think> x <answer>b</answer>", "<answer>b</answer><think>a</think>",
                     "<think>a</think>", "<think>a<answer>b</answer></think>", "<think>a</think>\u2003<answer>b</answer>!", "<think>a</think></think><answer>b</answer>",
                     "<reasoning>r</reasoning>\n<think>a</think>\n<answer>b</answer>", "<a.b>x</a.b>", "<aXb>x</aXb>", "<think>a</think><answer>b</answer><answer>c</answer>"):
            cases.append([names, text, float(bool(re.match(expression, text, re.DOTALL | re.MULTILINE)))])
    return cases


def regex():
    expressions = [r"^\d+$", r"\d+", r".*\bend$", r"(?i)answer: (\w+)$", r"^a.*z$", r"(?P<tag>b+)-(?P=tag)", r"[^\W\d_]+", r"\s*\{.*\}\s*$", r"(?<!x)y", r"a|b"]
    texts = ["12", "12\n", "12\nab", "x12", "answer: Ärger", "ANSWER: b\nc", "a\n\nz", "abz\n", "bb-bb", "bb-b", "ñandú", "{\n}", " {} x", "y", "the end\nmore", "b", ""]
    return [[e, t, float(bool(re.match(e, t, re.DOTALL | re.MULTILINE)))] for e in expressions for t in texts]


def overlong():
    return [[n, longest, cache, get_soft_overlong_punishment(longest, cache)([[1] * n])[0]] for longest, cache in ((100, 20), (7, 3), (10, 0), (5, 5)) for n in (0, 1, 4, 5, 6, 7, 8, 10, 11, 79, 80, 81, 93, 100, 101)]


def repetition():
    lists = [[], [1], [1, 2], [1, 2, 3], [5] * 5, [1, 2, 3, 1, 2, 3, 1], [0, 0, 1, 0, 0, 1, 0], list(range(40)) + list(range(20))]
    return [[ids, n, penalty, get_repetition_penalty_reward(n, penalty)([ids])[0]] for ids in lists for n, penalty in ((1, -1.0), (2, -0.5), (3, -1.0), (4, -2.0))]


TEXTS = ["", " ", "a", "aaa", "Hello, world", "ää öö", "日本 日本", "🙂 🙂\n", "one\u00a0two\u3000three", "a\tb\r\nc\x0bd\x1ce", "\u2028x\u0085y\u200bz"]


def counts():
    return [[text, len(text), len(text.split()), len(set(text)) / len(text) if text else 0.0] for text in TEXTS]


def refuse(constant):
    raise ValueError(constant)


def json_valid():
    texts = ["{}", "[]", "1", "null", "true", '"a"', "", " ", "{", '{"a": 1}', "{'a': 1}", '{"a": 1,}', "[1, 2", "[1 2]", '{"a": [1, {"b": null}]}', "NaN", "-Infinity", "01", "1.", "-0", "1e5", '"\\u00e9"', '"\\x"', "{} {}", "{}x",
             '\n\t{"a"\r:\t2} ', "\x0c{}", '"a\nb"', "// c\n1", "[" * 100 + "]" * 100]
    cases = []
    for text in texts:
        try:
            value = json.loads(text, parse_constant=refuse)
            kind = "object" if isinstance(value, dict) else "array" if isinstance(value, list) else "other"
        except ValueError:
            kind = "none"
        cases.append([text, kind])
    return cases


# (what a completion gives as its answer, the right one). Three spellings that math_verify does not take for numbers are left out: 1e3, "5." and 10\,000.
ANSWERS = [("42", "42"), ("42", "43"), ("42.0", "42"), ("042", "42"), ("+7", "7"), ("-3", "3"), ("-3", "-3"), ("1,234", "1234"), ("1,234,567.5", "1234567.5"), ("1234", "1,234"), ("12,34", "1234"), ("1/2", "0.5"), ("0.5", r"\frac{1}{2}"),
           (r"\frac{1}{2}", r"\frac12"), (r"\dfrac{3}{4}", r"\frac{6}{8}"), (r"\tfrac{3}{4}", "0.75"), (r"-\frac{1}{3}", r"\frac{-1}{3}"), (r"2\frac{1}{3}", r"\frac{7}{3}"), ("50\\%", "50"), ("50\\%", "0.5"), ("50\\%", "50\\%"), ("50\\%", "5"), ("25%", r"\frac{1}{4}"),
           (r"\$72", "72"), ("72 \\text{ apples}", "72"), (r"72\text{ cm}^2", "72"), ("5 miles", "5"), (r"90^\circ", "90"), (r"x = 5", "5"), ("5", "x=5"), (r"3 \times 10^{5}", "300000"), (r"10^{-2}", "0.01"), (r"2^{10}", "1024"), (r"\sqrt{16}", "4"),
           (r"2\sqrt{3}", r"\sqrt{12}"), (r"\frac{\sqrt{3}}{2}", r"\frac{\sqrt3}{2}"), (r"\sqrt[3]{27}", "3"), (r"2\pi", "6.283185307179586"), (r"\left(3+4\right)", "7"), (r"\frac{1}{2}+\frac{1}{3}", r"\frac{5}{6}"), ("3 - 5", "-2"), ("2 \\cdot 6", "12"),
           (".5", "0.5"), ("0.3333333", r"\frac{1}{3}"), ("0.333", r"\frac{1}{3}"), ("12345678901234567890", "12345678901234567891"), ("12345678901234567890", "12345678901234567890"), ("0", "-0"), ("0", "0.0"), ("0.1", "0"),
           ("x", "5"), ("5x", "5"), ("(1, 2)", "3"), (r"\text{(A)}", "5"), ("", "5"), (r"\frac{1}{0}", "1"), (r"\sqrt{-1}", "1"), ("((((3))))", "3"), ("1,000", "1"), ("-1,000", "-1000"), ("10{,}000", "10000")]

def judged(answer, right):
    return float(verify(parse(rf"\boxed{{{right}}}"), parse(rf"\boxed{{{answer}}}")))


def math():
    return [[answer, right, judged(answer, right)] for answer, right in ANSWERS]


def main():
    sections = {f.__name__: f() for f in (similarity, think, tags, regex, overlong, repetition, counts, json_valid, math)}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(f"{json.dumps(name)}: [\n" + ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]" for name, cases in sections.items())
    OUT.write_text("{" + lines + "}\n")
    print(OUT, {name: len(cases) for name, cases in sections.items()})


main()
