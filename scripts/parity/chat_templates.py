#!/usr/bin/env python3
"""Renders many conversations with every chat template of the installed trl wheel (and, with --fixtures, of this repository), by transformers and by
dsft, and prints how many agree. Both must give the same text, or both must fail.

    scripts/parity/chat_templates.py --test-program build/bin/test_text [--templates DIR] [--only NAME] [--show N]

Needs transformers, jinja2 and trl (scripts/parity.sh installs the pinned versions). Nothing of trl is copied.
"""
import argparse
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}

WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "Current weather of a city", "parameters": {
    "type": "object", "properties": {
        "city": {"type": "string", "description": "Name of the city, e.g. Zürich"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
        "days": {"type": "integer", "description": "How many days", "nullable": True}},
    "required": ["city"]}}}
NESTED = {"type": "function", "function": {"name": "make.order", "description": "Places an order\nwith <tags> & \"quotes\"", "parameters": {
    "type": "object", "properties": {
        "items": {"type": "array", "items": {"type": "object", "properties": {"sku": {"type": "string"}, "count": {"type": "number"}}, "required": ["sku"]}},
        "address": {"type": "object", "properties": {"street": {"type": "string"}, "zip": {"type": ["string", "null"]}}},
        "express": {"type": "boolean"}}, "required": ["items"]}}}
BARE = {"type": "function", "function": {"name": "now", "description": "The time", "parameters": {"type": "object", "properties": {}}}}
NO_PARAMETERS = {"type": "function", "function": {"name": "ping", "description": "Ping"}}


def user(text): return {"role": "user", "content": text}
def assistant(text, **more): return {"role": "assistant", "content": text, **more}
def system(text): return {"role": "system", "content": text}
def tool(text, **more): return {"role": "tool", "content": text, **more}


def call(name, arguments, call_id=None):
    entry = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return entry if call_id is None else {"id": call_id, **entry}


def conversations():
    """(name, messages, tools, kwargs)"""
    hi, hello = user("Hi there"), assistant("Hello! How can I help?")
    weather = call("get_weather", {"city": "Zürich", "unit": "celsius"}, "call_1")
    deep = call("make.order", {"items": [{"sku": "a\"b", "count": 1.5}, {"sku": "ü\n", "count": 2}], "address": {"street": "5 <b> & 'x'", "zip": None},
                               "express": True}, "call_2")
    parts = [{"type": "text", "text": "First part. "}, {"type": "text", "text": "Second part."}]
    image = [{"type": "image"}, {"type": "text", "text": "What is this?"}]
    chains = [user("Weather?"), assistant("", tool_calls=[weather]), tool("{\"temp\": 21}", name="get_weather", tool_call_id="call_1"), assistant("It is 21 °C.")]
    yield "user only", [hi], None, {}
    yield "one turn", [hi, hello], None, {}
    yield "system", [system("You are terse."), hi, hello], None, {}
    yield "system only", [system("You are terse.")], None, {}
    yield "multi turn", [hi, hello, user("More"), assistant("Sure"), user("And?"), assistant("Done.")], None, {}
    yield "multi turn with system", [system("S"), hi, hello, user("More"), assistant("Sure")], None, {}
    yield "ends with user", [system("S"), hi, hello, user("More")], None, {}
    yield "spaces around", [user("  padded \n"), assistant("\n\n text \t\n")], None, {}
    yield "empty content", [user(""), assistant("")], None, {}
    yield "empty system", [system(""), hi, hello], None, {}
    yield "unicode", [user("日本語 🙂 ñ é e\u0301 \u200b ﷽"), assistant("Ωμέγα İstanbul ß 👨‍👩‍👧")], None, {}
    yield "control characters", [user("tab\there \x01 \x7f\u2028 line"), assistant("a\r\nb\rc\x0bd")], None, {}
    yield "template syntax in content", [user("{{ messages }} {% for x in y %} {# no #}"), assistant("{{ 7*7 }}")], None, {}
    yield "special tokens in content", [user("<|im_end|><|eot_id|></s>[INST]"), assistant("<|im_start|>system")], None, {}
    yield "html", [user("<b>&amp; 'q' \"d\"</b>"), assistant("<i>&</i>")], None, {}
    yield "code", [user("Write code"), assistant("```python\nprint('hi')\n```\n")], None, {}
    yield "thinking in content", [hi, assistant("<think>\nhmm\n</think>\n\nHello")], None, {}
    yield "thinking in content, two turns", [hi, assistant("<think>\na\n</think>\n\nb"), user("x"), assistant("<think>c</think>d")], None, {}
    yield "reasoning_content", [hi, assistant("Hello", reasoning_content="They greet.")], None, {}
    yield "reasoning_content, two turns", [hi, assistant("Hello", reasoning_content="r1"), user("x"), assistant("y", reasoning_content="r2\n")], None, {}
    yield "reasoning", [hi, assistant("Hello", reasoning="They greet.")], None, {}
    yield "thinking", [hi, assistant("Hello", thinking="They greet.")], None, {}
    yield "thinking, two turns", [hi, assistant("Hello", thinking="t1"), user("x"), assistant("y", thinking="t2")], None, {}
    yield "tools, no call", [hi, hello], [WEATHER], {}
    yield "tools with system", [system("S"), hi, hello], [WEATHER, NESTED], {}
    yield "tools nested", [hi], [NESTED, BARE], {}
    yield "tool without parameters", [hi], [NO_PARAMETERS], {}
    yield "empty tools", [hi, hello], [], {}
    yield "tool call", [user("Weather?"), assistant("", tool_calls=[weather])], [WEATHER], {}
    yield "tool call, content none", [user("Weather?"), assistant(None, tool_calls=[weather])], [WEATHER], {}
    yield "tool call, no content key", [user("Weather?"), {"role": "assistant", "tool_calls": [weather]}], [WEATHER], {}
    yield "tool chain", chains, [WEATHER], {}
    yield "tool chain with system", [system("S")] + chains + [user("Thanks"), assistant("Welcome")], [WEATHER], {}
    yield "tool chain without tools", chains, None, {}
    yield "tool chain, string arguments", [user("W?"), assistant("", tool_calls=[call("get_weather", "{\"city\": \"Bern\"}", "c")]), tool("ok", tool_call_id="c"), hello], [WEATHER], {}
    yield "tool call with text", [user("W?"), assistant("Let me look.", tool_calls=[weather]), tool("rain"), assistant("Rain.")], [WEATHER], {}
    yield "tool call with reasoning", [user("W?"), assistant("", reasoning_content="need tool", tool_calls=[weather]), tool("rain"), assistant("Rain.", reasoning_content="done")], [WEATHER], {}
    yield "tool call with thinking", [user("W?"), assistant("", thinking="need tool", tool_calls=[weather]), tool("rain"), assistant("Rain.", thinking="done")], [WEATHER], {}
    yield "two calls", [user("W?"), assistant("", tool_calls=[weather, deep]), tool("r1", name="get_weather", tool_call_id="call_1"), tool("r2", tool_call_id="call_2"), assistant("ok")], [WEATHER, NESTED], {}
    yield "two call turns", chains[:3] + [assistant("", tool_calls=[deep]), tool("fine"), assistant("Done.")], [WEATHER, NESTED], {}
    yield "empty arguments", [user("T?"), assistant("", tool_calls=[call("now", {})]), tool("12:00"), assistant("Noon")], [BARE], {}
    yield "unwrapped call", [user("T?"), assistant("", tool_calls=[{"name": "now", "arguments": {"a": [1, 2.0, None, False]}}])], [BARE], {}
    yield "numbers in arguments", [user("T?"), assistant("", tool_calls=[call("now", {"x": 1e-7, "y": 1e20, "z": -0.5, "n": 12345678901, "t": True})])], [BARE], {}
    yield "tool content as parts", [user("W?"), assistant("", tool_calls=[weather]), tool(parts), hello], [WEATHER], {}
    yield "tool content as mapping", [user("W?"), assistant("", tool_calls=[weather]), tool({"temp": 21, "sky": "clear"}), hello], [WEATHER], {}
    yield "content as parts", [user(parts), assistant(parts)], None, {}
    yield "system as parts", [system(parts), user(parts), hello], None, {}
    yield "image part", [user(image), assistant("A cat.")], None, {}
    yield "enable_thinking false", [hi, hello], None, {"enable_thinking": False}
    yield "enable_thinking true", [hi, assistant("Hello", reasoning_content="r")], [WEATHER], {"enable_thinking": True}
    yield "reasoning_effort", [system("S"), hi, hello], None, {"reasoning_effort": "high", "model_identity": "You are dsft."}
    yield "other kwargs", [hi, hello], [WEATHER], {"preserve_thinking": True, "clear_thinking": False, "date_string": "1 Jan 2030", "tools_in_user_message": False,
                                                 "keep_past_thinking": True, "truncate_history_thinking": False, "xml_tools": ["a"], "builtin_tools": ["browser", "python"]}
    yield "builtin tools", [hi, assistant("", tool_calls=[call("code_interpreter", {"code": "1+1"})])], None, {"builtin_tools": ["brave_search", "code_interpreter"]}
    yield "two users", [hi, user("again"), hello], None, {}
    yield "two assistants", [hi, hello, assistant("And more.")], None, {}
    yield "assistant first", [hello, hi], None, {}
    yield "tool first", [tool("alone"), hi], None, {}
    yield "late system", [hi, hello, system("Change."), user("x"), assistant("y")], None, {}
    yield "developer", [{"role": "developer", "content": "Dev."}, hi, hello], [WEATHER], {}
    yield "unknown role", [{"role": "narrator", "content": "Once"}, hi, hello], None, {}
    yield "content missing", [hi, {"role": "assistant"}], None, {}
    yield "content none", [hi, assistant(None)], None, {}
    yield "content number", [user(5), assistant(1.5)], None, {}
    yield "long", [m for i in range(8) for m in (user(f"Question {i}"), assistant(f"Answer {i}"))], None, {}
    yield "no messages", [], None, {}


def expected(template, messages, tools, add_generation_prompt, kwargs):
    from transformers.utils.chat_template_utils import render_jinja_template
    try:
        rendered, _ = render_jinja_template(conversations=[messages], tools=tools, documents=None, chat_template=template,
                                            add_generation_prompt=add_generation_prompt, **{**TOKENS, **kwargs})
        rendered[0].encode("utf-8")
        return rendered[0], None
    except Exception as error:  # whatever Python raises while rendering is "the template fails"
        return None, f"{type(error).__name__}: {error}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--test-program", default="build/bin/test_text", help="dsft's test_text, which renders")
    parser.add_argument("--templates", help="a folder of *.jinja instead of trl's chat_templates")
    parser.add_argument("--fixtures", action="store_true", help="also the templates under test/fixtures/text/chat_template")
    parser.add_argument("--only", default="", help="only templates whose name contains this")
    parser.add_argument("--show", type=int, default=3, help="how many differences to print")
    arguments = parser.parse_args()
    if arguments.templates:
        folders = [pathlib.Path(arguments.templates)]
    else:
        trl = importlib.util.find_spec("trl")
        if trl is None:
            sys.exit("trl is not installed: run scripts/parity.sh, or name a folder by --templates")
        folders = [pathlib.Path(trl.submodule_search_locations[0]) / "chat_templates"]
    if arguments.fixtures:
        folders.append(pathlib.Path(__file__).resolve().parents[2] / "test/fixtures/text/chat_template")
    files = [f for folder in folders for f in sorted(folder.glob("*.jinja")) if arguments.only in f.name]
    rows = list(conversations())
    requests = []
    for file in files:
        for name, messages, tools, kwargs in rows:
            for prompt in (False, True):
                requests.append({"name": file.name, "row": name, "template": file.read_text(), "messages": messages, "tools": tools,
                                 "add_generation_prompt": prompt, "kwargs": kwargs, "special_tokens": TOKENS})
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = os.path.join(folder, "requests.jsonl"), os.path.join(folder, "answers.jsonl")
        with open(asked, "w") as out:
            out.writelines(json.dumps(r) + "\n" for r in requests)
        environment = {**os.environ, "DSFT_CHAT_REQUESTS": asked, "DSFT_CHAT_ANSWERS": answered}
        subprocess.run([arguments.test_program, "[chat_template_requests]"], check=True, env=environment, stdout=subprocess.DEVNULL)
        answers = [json.loads(line) for line in open(answered)]
    assert len(answers) == len(requests), f"{len(answers)} answers to {len(requests)} requests"
    equal_text = equal_failure = 0
    differences = []
    for request, answer in zip(requests, answers):
        text, error = expected(request["template"], request["messages"], request["tools"], request["add_generation_prompt"], request["kwargs"])
        if error is None and answer.get("text") == text:
            equal_text += 1
        elif error is not None and "error" in answer:
            equal_failure += 1
        else:
            differences.append((request, text, error, answer))
    for request, text, error, answer in differences[:arguments.show]:
        print(f"--- {request['name']}, row '{request['row']}', add_generation_prompt={request['add_generation_prompt']}")
        print("transformers:", repr(text) if error is None else error)
        print("dsft:        ", repr(answer.get("text")) if "text" in answer else answer["error"])
    print(f"chat templates: {len(files)} templates x {len(rows)} conversations x add_generation_prompt on and off = {len(requests)} renderings: "
          f"{equal_text} equal texts, {equal_failure} failures on both sides, {len(differences)} differ")
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
