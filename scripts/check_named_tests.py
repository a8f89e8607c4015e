#!/usr/bin/env python3
"""Every test that docs/faults.md names is there: scripts/check_named_tests.py

Names in quotes behind "module:" are test cases of test/<module>/, names in backquotes such as `end_to_end.slurm` tests of ctest, fuzz `name` a target of test/fuzz.
Prints each that is not, and ends with 1.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/faults.md"


def test_cases(module):
    text = "".join(path.read_text() for path in (ROOT / "test" / module).glob("*.cpp"))
    return {name.replace('"\n', "") for name in re.findall(r'TEST_CASE\(\s*"((?:[^"\\]|\\.)*)"', text)}


def missing(page):
    cmake = (ROOT / "test/CMakeLists.txt").read_text()
    for row in (line for line in page.splitlines() if line.startswith("|")):
        module = None
        for word, name in re.findall(r'\b([a-z_]+):(?= )|"((?:[^"\\]|\\.)*)"', row.split("|")[3]):
            if word:
                module = word
            elif name not in test_cases(module):
                yield f"test/{module} has no test case \"{name}\""
    for name in re.findall(r"`(end_to_end\.\w+)`", page):
        if f"NAME {name} " not in cmake:
            yield f"ctest has no {name}"
    for names in re.findall(r"fuzz ((?:`\w+`(?:, )?)+)", page):
        for name in re.findall(r"`(\w+)`", names):
            if not (ROOT / f"test/fuzz/{name}_fuzz.cpp").exists():
                yield f"test/fuzz has no {name}_fuzz.cpp"


def main():
    page = PAGE.read_text()
    faults = list(missing(page))
    for fault in faults:
        print(f"{PAGE.relative_to(ROOT)}: {fault}", file=sys.stderr)
    # what would find nothing shows nothing
    made_up = '| a | b | io: "no test has this name"; `end_to_end.nothing`, fuzz `nothing` |\n'
    if len(list(missing(made_up))) != 3:
        faults.append("made-up names are not found")
        print(faults[-1], file=sys.stderr)
    print(f"named tests: {page.count(chr(34)) // 2} quotes looked up")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
