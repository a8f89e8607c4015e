#!/usr/bin/env python3
"""Writes test/fixtures/text/chat_template/{language,rendered}.json: what jinja2, set up as transformers sets it up, makes of small pieces of the
template language and of the repository's own templates. Needs transformers and jinja2 (pinned in scripts/parity.sh).

    scripts/goldens/chat_template.py
"""
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts/parity"))
from chat_templates import TOKENS, conversations, expected  # noqa: E402

CONTEXT = {"s": "Hello, Wörld", "empty": "", "n": 7, "f": 2.5, "yes": True, "no": False, "nothing": None, "numbers": [3, 1, 2], "words": ["b", "A", "c", "a"],
           "d": {"b": 1, "a": [1, 2.0, None, True, "x'y"], "items": "key"}, "html": "<a href=\"x\">&'</a>", "lines": "one\n\ntwo\nthree",
           "people": [{"name": "Zoe", "age": 3, "home": {"city": "Bern"}}, {"name": "adam", "age": 30, "home": {"city": "ulm"}}, {"name": "Bob", "age": 3}],
           "tree": [{"v": 1, "kids": [{"v": 2, "kids": []}, {"v": 3, "kids": [{"v": 4, "kids": []}]}]}]}

EXPRESSIONS = """
1 + 2 * 3 - 4 / 2 | 7 // 2 | -7 // 2 | 7 % 3 | -7 % 3 | 2 ** 10 | 2 ** -1 | -2 ** 2 | 7.5 // 2 | -7.5 % 2 | 1e3 | 1_000 | 0x1F | 0b101 | 0o17 | 1.5e-7 | 1e16 | 123456789.0
0.1 + 0.2 | 1 / 3 | 10 / 5 | 3 * 'ab' | [1] * 3 | [1, 2] + [3] | (1, 2) + (3,) | (1,) | () | [] | {} | {'a': 1, 'b': [none, true, 1.0]} | 'a' ~ 1 ~ none ~ true ~ 1.5
1 < 2 < 3 | 1 < 3 < 2 | 1 == 1.0 | true == 1 | 'a' < 'b' | [1, 2] < [1, 3] | 'a' in 'abc' | 1 in [1, 2] | 3 not in [1, 2] | 'a' in d | 'z' not in d | 1 if yes else 2 | 1 if no | 'x' if no else 'y' if no else 'z'
not yes | not no and yes | yes or missing.attribute | no and missing.attribute | nothing or 'default' | '' or 0 or 'last' | missing | missing is defined | missing is undefined | s is defined and missing is not defined
s[0] | s[-1] | s[1:4] | s[::-1] | s[::2] | s[-3:] | s[10:2:-2] | numbers[0] | numbers[-1] | numbers[::-1] | numbers[1:] | numbers[5] | s[100] | d['a'] | d.b | d['items'] | d.missing | d['missing'] | numbers.0 | d.a[1] | range(5)[1:4] | range(0)
s.upper() | s.lower() | s.title() | 'hello WORLD'.capitalize() | 'aBc'.swapcase() | s | length | s.split(', ') | 'a b  c'.split() | 'a,b,c'.split(',', 1) | 'a,b,c'.rsplit(',', 1) | ' a b '.rsplit(none, 1) | 'x'.split('x') | ''.split() | ''.split(',') | 'a\\nb\\r\\nc'.splitlines() | 'a\\nb'.splitlines(true)
'xxaxx'.strip('x') | '  a '.lstrip() | '  a '.rstrip() ~ '|' | s.startswith('Hello') | s.endswith(('x', 'ld')) | s.startswith('ello', 1) | s.find('W') | s.find('z') | s.rfind('l') | s.index('ö') | s.count('l') | s.replace('l', 'L') | s.replace('l', 'L', 1) | 'ab'.replace('', '-')
'-'.join(['a', 'b']) | '-'.join('abc') | 'prefix_x'.removeprefix('prefix_') | 'x.txt'.removesuffix('.txt') | 'a=b=c'.partition('=') | 'a=b=c'.rpartition('=') | '7'.zfill(3) | '-7'.zfill(4) | 'a'.center(5) ~ '|' | 'ab'.center(5, '*') | 'a'.ljust(3, '.') | 'a'.rjust(3, '.')
'12'.isdigit() | 'ab'.isalpha() | 'a1'.isalnum() | ' '.isspace() | 'A'.isupper() | 'a'.islower() | 'Ab Cd'.istitle() | 'straße'.upper() | 'ǅ'.lower() | 'É'.lower() | '%s is %d and %.2f%%' % ('x', 3, 2.5) | '%5s|%-5s|%05d|%x' % ('a', 'b', 42, 255) | '%(a)s' % {'a': 1} | '%r' % 'q'
'{} {}'.format(1, 'a') | '{0} {1} {0}'.format('a', 'b') | '{name:>5}|{n:03d}|{f:.2f}'.format(name='x', n=7, f=1.5) | '{:,}'.format(1234567) | '{0[a]} {1.b}'.format({'a': 1}, {'b': 2}) | '{{}}'.format() | '{!r}'.format('x') | '%s' | format(5) | '%s-%s' | format(1, 2)
d.items() | list | d.keys() | list | d.values() | list | d.get('b') | d.get('z') | d.get('z', 5) | d.items() | d.keys() | numbers.index(1) | numbers.count(1) | d.copy() == d
nothing is none | s is string | n is number | n is integer | f is float | yes is boolean | yes is true | no is false | d is mapping | numbers is sequence | numbers is iterable | s is iterable | s is sequence | n is iterable | d is sequence | range is callable | n is odd | 8 is even | 9 is divisibleby 3 | 9 is divisibleby(2)
n is eq 7 | n is equalto 8 | n is ne(8) | n is gt 5 | n is ge 7 | n is lt 5 | n is le 7 | n is greaterthan 5 | n is lessthan 5 | n is in [7, 8] | 'a' is in 'abc' | n is sameas n | nothing is sameas none | 'upper' is filter | 'nope' is filter | 'odd' is test | 'nope' is test | 'ABC' is upper | 'abc' is lower | s is not none | yes is true and no is false | true is number | n is not string or yes
s | upper | s | lower | 'hello wORLD-foo (bar)' | title | 'hELLO' | capitalize | '  x ' | trim ~ '|' | 'xxaxx' | trim('x') | s | replace('l', 'L') | s | replace('l', 'L', 2) | s | reverse | s | first | s | last | s | list | s | length | n | string | n | string ~ 1 | '12' | int + 1 | '12.7' | int | 'abc' | int | 'abc' | int(5) | '0x1A' | int(0, 16) | ' 5 ' | int | 3.9 | int | none | int | true | int
'1.5' | float | 'x' | float | 'x' | float(2.5) | 5 | float | -5 | abs | -2.5 | abs | 2.5 | round | 3.5 | round | 2.675 | round(2) | 42.55 | round(1, 'floor') | 42.55 | round(1, 'ceil') | 7 | round | 1234.5 | round(-2)
numbers | sort | numbers | sort(reverse=true) | words | sort | words | sort(case_sensitive=true) | people | sort(attribute='name') | map(attribute='name') | list | people | sort(attribute='age,name') | map(attribute='name') | join(', ') | d | dictsort | d | dictsort(reverse=true) | {'a': 2, 'B': 1} | dictsort(by='value') | {'a': 2, 'B': 1} | dictsort(true)
words | unique | list | words | unique(case_sensitive=true) | list | numbers | min | numbers | max | [] | min | people | max(attribute='age') | numbers | sum | people | sum(attribute='age') | numbers | sum(start=10) | numbers | first | numbers | last | [] | first | [] | last | numbers | length | numbers | count | d | length | numbers | join | numbers | join(', ') | people | join(',', attribute='name')
numbers | reverse | list | [1, 2, 3, 4, 5] | batch(2) | list | [1, 2, 3, 4, 5] | batch(2, 'x') | list | [1, 2, 3, 4, 5] | slice(2) | list | [1, 2, 3, 4, 5] | slice(3, 'x') | list | people | groupby('age') | list | people | groupby('home.city', default='?') | map(attribute='grouper') | list
words | map('upper') | list | people | map(attribute='home.city') | list | people | map(attribute='home.city', default='?') | list | numbers | map('string') | join | [1, 2, 3, 4] | select('odd') | list | [1, 2, 3, 4] | reject('odd') | list | [0, 1, '', 'a'] | select | list | numbers | select('gt', 1) | list | people | selectattr('age', 'eq', 3) | map(attribute='name') | list | people | rejectattr('age', 'equalto', 3) | map(attribute='name') | list | people | selectattr('home') | list | length | people | selectattr('home', 'undefined') | map(attribute='name') | list
missing | default('x') | nothing | default('x') | nothing | default('x', true) | '' | d('y', true) | missing | default | d | items | list | missing | items | list | lines | indent | lines | indent(2) | lines | indent(2, true) | lines | indent(2, true, true) | lines | indent('> ', first=true) | 'foo bar baz qux' | truncate(9) | 'foo bar baz qux' | truncate(9, true) | 'foo bar baz qux' | truncate(11, false, '...', 0) | 'x' | center(5) ~ '|' | 'a b, c-d' | wordcount | html | escape | html | e | html | forceescape | html | safe | html | escape | escape | 1000 | filesizeformat | 1500000 | filesizeformat(true) | 'a b/ä' | urlencode | {'a': 1, 'b c': 'ü'} | urlencode | s | attr('upper') is callable | d | attr('b')
d | tojson | html | tojson | s | tojson | s | tojson(ensure_ascii=true) | d | tojson(indent=2) | d | tojson(indent=0) | d | tojson(separators=(',', ':')) | d | tojson(sort_keys=true) | [] | tojson(indent=2) | {} | tojson(indent=4) | {'a': {}, 'b': []} | tojson(indent=1) | '\\n\\t"\\\\\\u0001\\x7f🙂' | tojson | '🙂é' | tojson(ensure_ascii=true) | 1.0 | tojson | 1e100 | tojson | {1: 2, none: 3, true: 4} | tojson | (1, 2) | tojson
d | missing | string | [1.0, 1e-5, 1e20, 100000000000000000.0] | "it's" | ["it's", 'say "x"', 'b\\\\n\\n\\t\\x00é\\u200b🙂'] | [none, true, missing] | {'k': 'v'} | [d, numbers] | (1, 'a') | namespace(a=1).a | dict(a=1, b=2) | dict([('x', 1)]) | dict(d, z=1).z | range(3) | list | range(1, 10, 3) | list | range(3, 0, -1) | list
html | safe + '<b>' | '<b>' ~ html | safe | ['<', html | escape] | join | 'x' | safe is escaped
'a' 'b' | "q\\"'" | 'q\\'"' | 'tab\\tnl\\\\n' | '\\u00e9\\x41\\101' | '\\q' | 1 if 2 > 1 and not 3 < 2 else 0 | (1, 2)[0] | [[1, 2], [3]][0][1] | {'a': {'b': 1}}.a.b | - 3 | abs | -3 | string | (-3) | abs | 2 * -3 | not 1 == 2 | 'a' ~ 'b' | upper | 1 + 2 ~ 3 | 2 ** 3 ** 2 | 1 - 1 - 1 | n is odd and n is gt 5 | 5 in [1, 5] is true
missing.attribute | nothing.attribute | nothing.attribute.more | s.nope | s.nope() | missing() | n() | 1 + 'a' | 'a' + 1 | missing + 1 | [] < 1 | 1 / 0 | 1 // 0 | 1 % 0 | numbers.append(4) | d.update({}) | d.pop('a') | s | nope | s is nope | missing | length | n | length | n | list | numbers | map('nope') | list | s.join([1]) | {[]: 1} | d[[]] | raise_exception('stop') | range(100001) | range(0, 1, 0) | numbers | tojson(nope=1) | missing | tojson | range(2) | tojson | missing | int | words | sort | sum | [1, 'a'] | sort | numbers | select('nope') | list | s.__class__ | d.__class__.x | 'a' in missing | missing in 'a' | 'a' in nothing | 5 in 'a5' | missing == missing | missing == none | s.index('z') | (x for x in y)
""".strip().split("\n")

STATEMENTS = [
    "{% for x in numbers %}{{ loop.index }}/{{ loop.length }}:{{ x }}{{ ',' if not loop.last }}{% endfor %}",
    "{% for x in [] %}x{% else %}empty{% endfor %}", "{% for x in numbers if x > 1 %}{{ loop.index0 }}{{ x }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }};{% else %}none{% endfor %}",
    "{% for x in numbers if x > 5 %}x{% else %}none{% endfor %}", "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in d %}{{ k }}{% endfor %}", "{% for c in s %}{{ c }}.{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, b in [(1, 2, 3)] %}{% endfor %}", "{% for x in numbers %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}", "{% for x in numbers %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% else %}none{% endfor %}",
    "{% for x in numbers %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {% endfor %}", "{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for x in numbers %}{% for y in words %}{{ loop.depth }}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}",
    "{% for node in tree recursive %}{{ loop.depth }}:{{ node.v }}[{{ loop(node.kids) }}]{% endfor %}", "{% for x in numbers %}{{ loop(x) }}{% endfor %}", "{% set x = 1 %}{% for i in numbers %}{% set x = x + i %}{{ x }},{% endfor %}{{ x }}",
    "{% set ns = namespace(x=1) %}{% for i in numbers %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}{{ ns.nope }}", "{% set ns = {} %}{% set ns.x = 1 %}", "{% set nope.x = 1 %}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a = 1, 2 %}{{ a }}", "{% set x %}a{{ n }}b{% endset %}{{ x | upper }}", "{% set x | upper | trim %} a{{ n }}b {% endset %}{{ x }}|",
    "{% if no %}a{% elif nothing %}b{% elif yes %}c{% else %}d{% endif %}", "{% if missing %}a{% else %}b{% endif %}{% if not numbers %}x{% endif %}", "{% if yes %}{% set z = 5 %}{% endif %}{{ z }}", "{% with a=1, b=n %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% set a = 1 %}{% with a=2, b=a %}{{ a }}{{ b }}{% endwith %}{{ a }}",
    "{% macro m(a, b=2, c=b) %}{{ a }}-{{ b }}-{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(1, c=5) }} {{ m(b=1, a=0) }} {{ m() }}", "{% macro m(a) %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, x=4) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, z=2) }}",
    "{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}in {{ n }}{% endcall %}", "{% macro m() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b=5) m() %}{{ a }}{{ b }}{% endcall %}", "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}", "{% macro f(x) %}{{ x }}{% if x > 0 %},{{ f(x - 1) }}{% endif %}{% endmacro %}{{ f(5) }}", "{% macro m(a) %}{{ a }}{{ outer }}{% endmacro %}{% set outer = 9 %}{{ m(1) }}{{ m.name }}{{ m.arguments }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{% filter upper %}a{{ s }}b{% endfilter %}", "{% filter trim | upper | replace('A', 'b') %} a {% endfilter %}|", "{% raw %}{{ x }}{% if %}{% endraw %}", "{% raw -%}  a  {%- endraw %}b", "{# comment #}a{#- c -#} b", "  {# c #}\nx", "a{% print 1, 2 %}",
    "{% generation %}a{% endgeneration %}", "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}", "{% do numbers.append(1) %}", "{% include 'x' %}", "{% import 'x' as y %}", "{% extends 'x' %}", "{% nope %}", "{% if yes %}", "{% endif %}", "{{ 1", "{{ 1 }", "{% for x in %}{% endfor %}", "{{ }}", "{{ [1, }}", "{{ 'abc }}", "{{ a.1b }}", "{% break %}", "{{ 1 2 }}", "{{ x is is y }}", "{% set true = 1 %}", "{{ f(a=1, 2) }}", "{# open", "{% raw %}x", "{{ (1 }}", "{{ 1) }}", "{{ @ }}", "{% macro m(a=1, b) %}{% endmacro %}",
    "  {% if yes %}\n  a\n  {% endif %}\nb", "  {%+ if yes %}\n  a\n  {%- endif +%}\nb", "x {%- if yes -%} y {%- endif -%} z", "{% if yes %}\n\n a {% endif %}\n", "a\n  {{- n -}}\n  b", "a\n {{ n }} \nb\n", "a\r\nb\rc\n", "\n{% set x = 1 %}\n{{ x }}\n\n", "{%- for x in numbers %}\n  {{ x }}\n{%- endfor %}\n", "{% for x in numbers -%}\n  {{ x }}\n{% endfor %}", "x\n\t {% if yes %}y{% endif %}\t\n z", "{{ n }}\n{% if yes %}{% endif %}\n", "a {# c -#}  b", "a  {#- c #}  b", "{% if yes %}{{ s }}{% endif %}   {% if yes %}x{% endif %}", "{%if yes%}a{%endif%}", "{{'a'}}{{-'b'}}", "{{ {'a': {'b': 1}} }}", "{{ {'a': 1}.a }}{% raw %}{%{% endraw %}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}", "{% set j = joiner('|') %}{{ j() }}a{{ j() }}b", "{% set it = numbers | map('string') %}{{ it | join }}{{ it | join }}.", "{% set it = numbers | reverse %}{{ it | first }}{{ it | list }}", "{% for x in numbers | map('string') %}{{ loop.length }}{{ x }}{% endfor %}", "{{ numbers | map('string') | length }}", "{{ numbers | select('odd') | last }}",
    "{% for i in range(3) %}{% set x = i %}{% endfor %}{{ x is defined }}", "{% for x in numbers %}{% endfor %}{{ x is defined }}{{ loop is defined }}", "{% macro m(x) %}{% set y = x %}{{ y }}{% endmacro %}{{ m(1) }}{{ y is defined }}", "{% set f = s.upper %}{{ f() }}", "{{ s.upper is callable }}{{ numbers.append is defined }}", "{{ '%s' % missing }}{{ '' ~ missing }}{{ [missing] }}", "{% if s is string and s is not mapping and not s is none %}y{% endif %}", "{{ namespace(a=1) }}", "{% set x = x | default(5) %}{{ x }}", "{{ people[0].home.city }}{{ people[2].home.city }}", "{% for p in people | sort(attribute='name', reverse=true) %}{{ p.name }}{% endfor %}", "{% for g in people | groupby('age') %}{{ g.grouper }}:{{ g.list | length }};{% endfor %}", "{% for age, list in people | groupby('age') %}{{ age }}:{{ list | map(attribute='name') | join('+') }};{% endfor %}",
]


def expression_pieces():
    """Lines of EXPRESSIONS hold expressions and filters, both parted by " | ", so every expression that grows along a line is a case of its own."""
    for line in EXPRESSIONS:
        parts = line.split(" | ")
        for i, part in enumerate(parts):
            yield part
            for length in (2, 3):
                if i + length <= len(parts):
                    yield " | ".join(parts[i:i + length])


def main():
    folder = ROOT / "test/fixtures/text/chat_template"
    cases, seen = [], set()
    for source in [*("{{ " + piece + " }}" for piece in expression_pieces()), *STATEMENTS]:
        if source in seen:
            continue
        seen.add(source)
        text, error = expected(source, [{"role": "user", "content": "hi"}], None, False, CONTEXT)
        if text is not None and (" at 0x" in text or "<function" in text or "<built-in" in text or "bound method" in text):
            continue  # prints an address
        if error is not None and "named" in error and "nope" not in source:
            continue  # an unknown filter: jinja2 says so even where it is never reached
        cases.append([source] if error else [source, text])
    (folder / "language.json").write_text(json.dumps({"context": CONTEXT, "cases": cases}, ensure_ascii=False, indent=0) + "\n")
    rendered = []
    for file in [*sorted(folder.glob("*.jinja")), *sorted((ROOT / "recipes/templates").glob("*.jinja"))]:
        for name, messages, tools, kwargs in conversations():
            for prompt in (False, True):
                text, error = expected(file.read_text(), messages, tools, prompt, kwargs)
                rendered.append({"template": file.name, "row": name, "add_generation_prompt": prompt, "text": text})
    rows = {name: {"messages": messages, "tools": tools, "kwargs": kwargs} for name, messages, tools, kwargs in conversations()}
    (folder / "rendered.json").write_text(json.dumps({"special_tokens": TOKENS, "rows": rows, "rendered": rendered}, ensure_ascii=False, indent=0) + "\n")
    print(f"{len(cases)} pieces ({sum(len(c) == 1 for c in cases)} fail), {len(rendered)} renderings ({sum(r['text'] is None for r in rendered)} fail)")


if __name__ == "__main__":
    main()
