"""Rows like those of a data set of chats, the same for dsft_chat.py and trl_sft.py: random token ids, tokenized already.

Not run by itself. Lengths are lognormal, cut at 2048: mean about 290, half of the rows shorter than 200.
"""
import numpy

CUT = 2048
MEAN, SIGMA = 300, 0.9
NUM_IDS = 49152  # of the tokenizer whose files stand beside dsft's random weights
ROWS_PER_BIN = CUT // 250  # at least what a packed bin takes on average


def chats(count, vocab_size=NUM_IDS):
    random = numpy.random.default_rng(0)
    lengths = random.lognormal(numpy.log(MEAN) - SIGMA**2 / 2, SIGMA, count).astype(int).clip(8, CUT)
    return [random.integers(2, min(vocab_size, NUM_IDS), n).tolist() for n in lengths]
