#!/usr/bin/env python3
"""Makes data/function_calling/{train,held_out}.jsonl: conversations in which an assistant calls functions, or rightly does not.

Every row is {"messages": [...], "tools": [...]} as transformers' chat templates take them. In each row the last turn is the one that is judged:

    call         one request, one call
    two_calls    a request for two things at once, two calls in one turn
    second_call  an earlier request with its call, result and answer, then the call for another request
    answer       the call and its result are there: the answer in words, no call
    chat         talk that needs no tool, tools are there all the same
    no_tool      a request that none of the given tools can do: an answer in words

In the held-out part all values (names, places, numbers but small ones) and, in about a third of the rows that call, the tools were never seen in
training. The output is a function of this script, the tool table and --seed alone.

    python3 scripts/make_function_calling_data.py [--output data/function_calling] [--seed 7] [--train-rows 2400] [--held-out-rows 240]
"""
import argparse
import json
import random
from pathlib import Path

from function_calling_tools import CHAT, HELD_OUT_CHAT, HELD_OUT_WRAPPERS, KINDS, TOOLS, WRAPPERS
from row_files import write_rows

SHARES = {"call": 52, "two_calls": 8, "second_call": 15, "answer": 12, "chat": 7, "no_tool": 6}
UNSEEN_TOOL_SHARE = 0.34  # of the held-out rows


class Part:
    """One part of the data set: which values, wrappers and talk it draws from."""

    def __init__(self, rng, is_held_out):
        self.rng = rng
        self.is_held_out = is_held_out
        self.wrappers = HELD_OUT_WRAPPERS if is_held_out else WRAPPERS
        self.chat = HELD_OUT_CHAT if is_held_out else CHAT

    def pick_tools(self, count):
        """`count` different tools, the first of which a row will call."""
        seen = [tool for tool in TOOLS if not tool.held_out]
        unseen = [tool for tool in TOOLS if tool.held_out]
        first = self.rng.choice(unseen if self.is_held_out and self.rng.random() < UNSEEN_TOOL_SHARE else seen)
        others = [tool for tool in (TOOLS if self.is_held_out else seen) if tool is not first]
        return [first] + self.rng.sample(others, count - 1)

    def pick_value(self, kind, used):
        values = [value for value in KINDS[kind][2 if self.is_held_out else 1] if value not in used]
        value = self.rng.choice(values)
        used.append(value)
        return value if isinstance(value, tuple) else (str(value), value)


def schema(tool):
    properties = {name: dict(KINDS[kind][0]) for name, kind in tool.parameters.items()}
    parameters = {"type": "object", "properties": properties, "required": tool.required()}
    return {"type": "function", "function": {"name": tool.name, "description": tool.description, "parameters": parameters}}


def fill(text, words):
    for name, word in words.items():
        text = text.replace("{" + name + "}", word)
    return text


def make_request(part, tool):
    """A phrase with values: (what the user says, words by parameter, arguments of the call)."""
    phrase = part.rng.choice(tool.phrases)
    words, arguments, used = {}, {}, []
    for name, kind in tool.parameters.items():
        if "{" + name + "}" in phrase:
            words[name], arguments[name] = part.pick_value(kind, used)
    return fill(phrase, words), words, arguments


def say(part, phrase):
    wrapper = part.rng.choice(part.wrappers)
    return wrapper.replace("{phrase}", phrase).replace("{Phrase}", phrase[0].upper() + phrase[1:])


def calls_message(calls):
    return {"role": "assistant", "content": "", "tool_calls": [
        {"type": "function", "function": {"name": tool.name, "arguments": arguments}} for tool, arguments in calls]}


def finished_exchange(part, tool):
    """User, call, result and answer of one request."""
    phrase, words, arguments = make_request(part, tool)
    # an argument that the phrase leaves open must not stand in the answer
    answer = fill(tool.answer, words) if "{" not in fill(tool.answer, words) else "Done."
    return [
        {"role": "user", "content": say(part, phrase)}, calls_message([(tool, arguments)]),
        {"role": "tool", "name": tool.name, "content": json.dumps(tool.result)}, {"role": "assistant", "content": answer},
    ]


def make_conversation(part, kind, tools):
    """The messages of a row and the tools that it shows; the first of `tools` is the one that is called."""
    if kind == "call":
        phrase, _, arguments = make_request(part, tools[0])
        return [{"role": "user", "content": say(part, phrase)}, calls_message([(tools[0], arguments)])], tools
    if kind == "two_calls":
        first, _, first_arguments = make_request(part, tools[0])
        second, _, second_arguments = make_request(part, tools[1])
        request = {"role": "user", "content": say(part, f"{first} and {second}")}
        return [request, calls_message([(tools[0], first_arguments), (tools[1], second_arguments)])], tools
    if kind == "second_call":
        phrase, _, arguments = make_request(part, tools[0])
        request = {"role": "user", "content": say(part, phrase)}
        return finished_exchange(part, tools[1]) + [request, calls_message([(tools[0], arguments)])], tools
    if kind == "answer":
        return finished_exchange(part, tools[0]), tools
    if kind == "chat":
        question, answer = part.rng.choice(part.chat)
        return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}], tools
    phrase, _, _ = make_request(part, tools[0])  # no_tool: the tool that could do it is not shown
    answer = "I'm sorry, none of my functions can do that."
    return [{"role": "user", "content": say(part, phrase)}, {"role": "assistant", "content": answer}], tools[1:]


def make_row(part):
    kind = part.rng.choices(list(SHARES), SHARES.values())[0]
    count = part.rng.choice([2, 2, 3]) + (kind == "no_tool")
    messages, shown = make_conversation(part, kind, part.pick_tools(count))
    shown = part.rng.sample(shown, len(shown))
    return {"messages": messages, "tools": [schema(tool) for tool in shown]}


def different_rows(part, count):
    """Rows without repetition: talk repeats easily."""
    rows, texts = [], set()
    while len(rows) < count:
        row = make_row(part)
        text = json.dumps(row, sort_keys=True)
        if text not in texts:
            texts.add(text)
            rows.append(row)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parent.parent / "data" / "function_calling")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--train-rows", type=int, default=2400)
    parser.add_argument("--held-out-rows", type=int, default=240)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    for name, count, is_held_out in (("train", args.train_rows, False), ("held_out", args.held_out_rows, True)):
        rows = different_rows(Part(random.Random(f"{args.seed}/{name}"), is_held_out), count)
        write_rows(args.output / f"{name}.jsonl", rows)
        without_call = sum("tool_calls" not in row["messages"][-1] for row in rows)
        print(f"wrote {args.output / name}.jsonl: {len(rows)} rows, {without_call} of them end without a call")
