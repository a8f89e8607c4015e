"""Writes test/fixtures/text/tokenizer/: small tokenizers with each family's real settings, and what Hugging Face's tokenizers answers with them.

FAMILY.json is a tokenizer.json, FAMILY.cases.json its answers; components.cases.json holds other components spliced into gpt2.json.
Usage: python scripts/goldens/make_tokenizer_goldens.py   (needs the package tokenizers)
"""

import json
import pathlib
import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts/parity"))
from tokenizer import CODE, WORDS, random_text  # noqa: E402

OUT = ROOT / "test/fixtures/text/tokenizer"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")
GPT4O = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
         r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")

TEXTS = [
    "", " ", "  ", "\n", "\n\n", "\t\t", "a", " a", "a ", "  a  b   c    ", "Hello, world!", "Hello  world\n\nNew paragraph.\n", "trailing spaces   ",
    "don't I'll WE'VE they'RE it'S o'clock 'quoted' 'ſ 'Ll", "x = 12345678 + 9.99e-10; // 1234", "١٢٣ ⅷ ½ ² 三 〇", "été naïve Größe e\u0301 n\u0303 \u1e9b\u0323",
    "привет мир", "你好，世界。", "日本語のテキスト", "안녕하세요 \u1112\u1161\u11ab", "مرحبا بالعالم", "नमस्ते दुनिया", "สวัสดีชาวโลก", "Tiếng Việt",
    "😀 👍🏽 👩‍👩‍👧‍👦🇩🇪❤️", "\u00a0\u2003\u3000\u0085\u200b\u180e\u2028x", "\ufeffbom", "\u0000\u0001\u001f", "ﬁ ﬀ Å ℵ ①②③ ｆｕｌｌ", "İstanbul ŞEKER ΣΊΣΥΦΟΣ",
    "def f(x):\n    return {'a': x[0], \"b\": None}\n\n\tif x != y:\r\n\t\tpass", "if(a&&b||!c){a->b++;}", "https://example.com/path?q=1&r=%20#frag", "a\r\nb\r\n\r\nc \r\n d",
    "word\n  \n  indented", "___snake_case__ CamelCase kebab-case", "!!!???...", "…—–“”‘’", "<|endoftext|>", "a<|endoftext|>b", " <|endoftext|> ", "<|endoftext|><|endoftext|>",
    "<|im_start|>user\nhi<|im_end|>\n", "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>", "<think>\nhm\n</think>\n\n<tool_call>\n{}\n</tool_call>",
    "x <mask> y", "x<mask>y", "x  <right>  y", "<word> xword> <word>s s<word> é<word> (<word>)", "<|endoftext", "|endoftext|>", "<s>text</s>", "<s> text </s> <unk>", "▁already ▁ marked",
    "new line\nsecond", "<0x41>", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "\U0010ffff \U000e0001", "a" * 200, "ab" * 60 + " " + "1" * 50, "\u0301\u0301", "a\u0301\u0323b", "क\u093c",
]


def corpus():
    rng = random.Random(1)
    for _ in range(4000):
        yield " ".join(rng.choice(WORDS) for _ in range(12)) + "\n" + rng.choice(CODE) + " " + str(rng.randint(0, 99999)) + "    \n\n" + "the quick brown fox"


def byte_level(normalizer, pre_tokenizer, post_processor, special, ignore_merges=False, size=1000):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    if post_processor:
        tokenizer.post_processor = post_processor(tokenizer)
    return tokenizer


def make_gpt2():
    tokenizer = byte_level(None, pre_tokenizers.ByteLevel(add_prefix_space=False), lambda t: processors.ByteLevel(trim_offsets=True), ["<|endoftext|>"])
    tokenizer.add_tokens([AddedToken("<word>", single_word=True), AddedToken("<right>", rstrip=True, normalized=False)])
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    return tokenizer


def make_llama3():
    def post_processor(t):
        template = processors.TemplateProcessing(single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|> $B",
                                                 special_tokens=[("<|begin_of_text|>", t.token_to_id("<|begin_of_text|>"))])
        return processors.Sequence([processors.ByteLevel(trim_offsets=True), template])

    pre = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    tokenizer = byte_level(None, pre, post_processor, special, ignore_merges=True)
    # a word that merging alone does not reach: only ignore_merges gives its token
    description = json.loads(tokenizer.to_str())
    description["model"]["vocab"]["Ġindented"] = len(description["model"]["vocab"])
    return Tokenizer.from_str(json.dumps(description))


def make_qwen2():
    pre = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN2), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer = byte_level(normalizers.NFC(), pre, lambda t: processors.ByteLevel(trim_offsets=False), [])
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in ["<think>", "</think>", "<tool_call>", "</tool_call>"]])
    return tokenizer


def make_smollm2():
    pre = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return byte_level(None, pre, None, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])


def make_llama2():
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=1100, special_tokens=special, limit_alphabet=150, max_token_length=8, show_progress=False)
    tokenizer.train_from_iterator((word for line in corpus() for word in line.split()), trainer)
    description = json.loads(tokenizer.to_str())
    description["added_tokens"] = [dict(t, normalized=False) for t in description["added_tokens"][:3]]
    tokenizer = Tokenizer.from_str(json.dumps(description))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return tokenizer


def untrimmed(tokenizer):
    """The same tokenizer whose offsets name all bytes of a token."""
    return Tokenizer.from_str(tokenizer.to_str().replace('"trim_offsets": true', '"trim_offsets": false').replace('"trim_offsets":true', '"trim_offsets":false'))


def cases_of(tokenizer, texts):
    plain = untrimmed(tokenizer)
    for text in texts:
        encoding = plain.encode(text)
        case = {
            "text": text,
            "ids": tokenizer.encode(text).ids,
            "ids_without_special": tokenizer.encode(text, add_special_tokens=False).ids,
            "decoded": tokenizer.decode(encoding.ids, skip_special_tokens=False),
            "decoded_without_special": tokenizer.decode(encoding.ids),
        }
        if tokenizer.normalizer is None:
            case["offsets"] = encoding.offsets  # in characters
        yield case


def million_letters():
    """The text that the test makes too: 2^20 letters of a linear congruential generator."""
    state, letters = 1, []
    for _ in range(1 << 20):
        state = (state * 1103515245 + 12345) % (1 << 31)
        letters.append(chr(97 + (state >> 16) % 26))
    return "".join(letters)


def hash_ids(ids):
    """FNV-1a over the ids as 32-bit words."""
    value = 0xCBF29CE484222325
    for i in ids:
        value = ((value ^ i) * 0x100000001B3) % (1 << 64)
    return value


COMPONENTS = {
    "normalizer": [
        {"type": "NFC"}, {"type": "NFD"}, {"type": "NFKC"}, {"type": "NFKD"}, {"type": "Lowercase"}, {"type": "StripAccents"},
        {"type": "Strip", "strip_left": True, "strip_right": False}, {"type": "Strip", "strip_left": True, "strip_right": True},
        {"type": "Replace", "pattern": {"String": " "}, "content": "__"}, {"type": "Replace", "pattern": {"Regex": "[aeiou]+\\s?"}, "content": ""},
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}, {"type": "Replace", "pattern": {"String": "."}, "content": " dot "}]},
    ],
    "pre_tokenizer": [
        *({"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}
          for pattern in ({"String": " "}, {"Regex": "\\d+|o"})
          for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")
          for invert in (False, True)),
        {"type": "Split", "pattern": {"Regex": GPT4O}, "behavior": "Isolated", "invert": False},
        {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Removed", "invert": True},
        {"type": "Split", "pattern": {"Regex": "\\s+|\\S"}, "behavior": "MergedWithNext", "invert": False},
        {"type": "Split", "pattern": {"Regex": "(?=[A-Z])"}, "behavior": "Isolated", "invert": False},
        {"type": "Digits", "individual_digits": False}, {"type": "Digits", "individual_digits": True}, {"type": "Whitespace"}, {"type": "WhitespaceSplit"},
        {"type": "Punctuation", "behavior": "Isolated"}, {"type": "Punctuation", "behavior": "MergedWithPrevious"},
        *({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split} for scheme in ("always", "first", "never") for split in (True, False)),
    ],
    "last_pre_tokenizer": [{"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex} for prefix in (True, False) for regex in (True, False)],
    "decoder": [
        None, {"type": "Fuse"}, {"type": "ByteFallback"}, {"type": "Strip", "content": "Ġ", "start": 1, "stop": 0}, {"type": "Strip", "content": "a", "start": 0, "stop": 1}, {"type": "Replace", "pattern": {"String": "Ġ"}, "content": " "},
        {"type": "Metaspace", "replacement": "Ġ", "prepend_scheme": "always", "split": True},
        {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"Regex": "Ġ+"}, "content": " "}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 2, "stop": 0}]},
    ],
    "post_processor": [
        {"type": "RobertaProcessing", "sep": ["x", 7], "cls": ["y", 8], "trim_offsets": True, "add_prefix_space": False},
        {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "B", "type_id": 0}}],
         "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
         "special_tokens": {"A": {"id": "A", "ids": [5, 6], "tokens": ["%", "&"]}, "B": {"id": "B", "ids": [9], "tokens": ["*"]}}},
    ],
}


def component_cases(base):
    texts = [t for t in TEXTS if len(t) < 100]
    for kind, values in COMPONENTS.items():
        for value in values:
            description = json.loads(base.to_str())
            override = {kind: value}
            if kind == "pre_tokenizer":
                last = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
                override = {kind: {"type": "Sequence", "pretokenizers": [value, last]}}
            elif kind == "last_pre_tokenizer":
                override = {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": False}, value]}}
            description.update(override)
            tokenizer = Tokenizer.from_str(json.dumps(description))
            encoded = [tokenizer.encode(t).ids for t in texts]
            case = {"override": override}
            if kind == "decoder":
                case["decoded"] = [tokenizer.decode(ids) for ids in encoded]
            else:
                case["ids"] = encoded
            yield case


def write(name, value):
    (OUT / name).write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n")
    print(name, (OUT / name).stat().st_size)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    rng = random.Random(2)
    for name in ("gpt2", "llama3", "qwen2", "smollm2", "llama2"):
        tokenizer = globals()["make_" + name]()
        description = json.loads(tokenizer.to_str())
        if name in ("gpt2", "smollm2"):  # the older spelling of merges
            description["model"]["merges"] = [" ".join(pair) for pair in description["model"]["merges"]]
        write(name + ".json", description)
        tokenizer = Tokenizer.from_file(str(OUT / (name + ".json")))
        special = [t["content"] for t in description["added_tokens"]]
        texts = TEXTS + [text for text in (random_text(rng, special) for _ in range(60)) if len(text) < 400]
        answers = {"cases": list(cases_of(tokenizer, texts))}
        long_ids = tokenizer.encode(million_letters(), add_special_tokens=False).ids
        answers["million_letters"] = {"num_ids": len(long_ids), "hash": str(hash_ids(long_ids))}
        write(name + ".cases.json", answers)
        if name == "gpt2":
            write("components.cases.json", {"texts": [t for t in TEXTS if len(t) < 100], "cases": list(component_cases(tokenizer))})


main()
