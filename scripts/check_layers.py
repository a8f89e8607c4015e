#!/usr/bin/env python3
"""Fails on every include that the layer table lib/layers.txt does not allow. Run by ctest ("layers").

Checked:
- the table: modules it names exist once, include only rows above their own and no higher level (so there are no cycles), and a plain module includes no
  torch module;
- every folder of lib/ with sources is in the table;
- an include of another module is in the row's list or reachable from it; any module may include any *_config.h that itself includes only base, config
  and its like;
- in a torch module a *_config.{h,cpp} file, or a "part" file of the table, includes only base, config and its like (a part: its module's plain rows too);
- no torch header is reached, through any chain of includes, from a plain module, a *_config or part file, apps/dsft or apps/options.

The rules are first tried on small made-up trees with one fault each, so that a checker that sees nothing cannot pass.
"""
import re
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')
ROW = re.compile(r"^([a-z_]+)\s+(\d+)\s+(plain|torch)\s+(.+)$")
PART = re.compile(r"^part\s+([a-z_]+/[a-z_/]+)$")
TORCH_HEADER = re.compile(r"^(torch|ATen|c10|caffe2)/")
SOURCE_SUFFIXES = {".h", ".cpp", ".cu", ".cuh", ".inc"}
TORCH_FREE_APPS = ("apps/dsft", "apps/options")


@dataclass
class Module:
    level: int
    is_plain: bool
    includes: list


@dataclass
class Table:
    modules: dict = field(default_factory=dict)
    parts: set = field(default_factory=set)  # "optim/schedule"

    def reachable(self, name):
        """The modules that `name` may include: its row's list and whatever those may include."""
        found, waiting = set(), list(self.modules[name].includes)
        while waiting:
            other = waiting.pop()
            if other in self.modules and other not in found:
                found.add(other)
                waiting += self.modules[other].includes
        return found


def read_table(path, faults):
    table = Table()
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        row, part = ROW.match(line), PART.match(line)
        if part:
            table.parts.add(part[1])
        elif row and row[1] not in table.modules:
            table.modules[row[1]] = Module(int(row[2]), row[3] == "plain", [name for name in row[4].split() if name != "-"])
        else:
            faults.append(f"{path.name}:{number}: cannot read this row, or its module stands twice: {line}")
    return table


def check_table(table, faults):
    order = list(table.modules)
    for name, module in table.modules.items():
        for other in module.includes:
            if other not in table.modules:
                faults.append(f"layers.txt: {name} includes {other}, which is no module of the table")
            elif table.modules[other].level > module.level or order.index(other) >= order.index(name):
                faults.append(f"layers.txt: {name} (level {module.level}) includes {other} (level {table.modules[other].level}), which does not stand above it")
            elif module.is_plain and not table.modules[other].is_plain:
                faults.append(f"layers.txt: the plain module {name} includes the torch module {other}")
    for part in table.parts:
        if part.split("/")[0] not in table.modules:
            faults.append(f"layers.txt: part {part} is in no module of the table")


def read_includes(path):
    """(line number, is quoted, name) of each include of a file."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        match = INCLUDE.match(line)
        if match:
            found.append((number, match[1] == '"', match[2]))
    return found


class Tree:
    """The sources of one repository and what they include."""

    def __init__(self, root):
        self.root = root
        self.faults = []
        self.table = read_table(root / "lib" / "layers.txt", self.faults)
        self.sources = sorted(
            path for top in ("lib", "apps") for path in (root / top).rglob("*") if path.suffix in SOURCE_SUFFIXES)
        self.includes = {path: read_includes(path) for path in self.sources}
        self.torch_chains = {}

    def resolve(self, path, name):
        """The file of this tree that an include names, or None for a system header."""
        for folder in (self.root / "lib", self.root / "apps", path.parent):
            candidate = (folder / name).resolve()
            if candidate in self.includes:
                return candidate
        return None

    def name(self, path):
        return path.relative_to(self.root).as_posix()

    def module_of(self, path):
        parts = path.relative_to(self.root).parts
        return parts[1] if parts[0] == "lib" and len(parts) > 2 else None

    def is_config(self, path):
        return self.module_of(path) is not None and path.stem.endswith("_config")

    def is_part(self, path):
        return self.module_of(path) is not None and path.relative_to(self.root / "lib").with_suffix("").as_posix() in self.table.parts

    def must_be_torch_free(self, path):
        module = self.table.modules.get(self.module_of(path))
        in_app = any(self.name(path).startswith(app + "/") for app in TORCH_FREE_APPS)
        return in_app or self.is_config(path) or self.is_part(path) or (module is not None and module.is_plain)

    def torch_chain(self, path):
        """The files from `path` to a torch header, or an empty list. Breadth first, so the chain shown is the shortest."""
        came_from, waiting = {path: None}, [path]
        while waiting:
            current = waiting.pop(0)
            for _, _, name in self.includes[current]:
                target = self.resolve(current, name)
                if target is None and TORCH_HEADER.match(name):
                    chain = [name]
                    while current is not None:
                        chain.insert(0, self.name(current))
                        current = came_from[current]
                    return chain
                if target is not None and target not in came_from:
                    came_from[target] = current
                    waiting.append(target)
        return []

    def is_free_config(self, path):
        """A *_config file that any module may include: it pulls nothing in but base, config and its like."""
        targets = [self.resolve(path, name) for _, _, name in self.includes[path]]
        return self.is_config(path) and all(
            target is None or self.module_of(target) in ("base", "config") or self.is_config(target) for target in targets)

    def allows(self, path, target):
        own, other = self.module_of(path), self.module_of(target)
        if self.is_free_config(target) or (self.is_config(path) or self.is_part(path)) and (
                other in ("base", "config") or self.is_part(target) or own == other and path.stem == target.stem):
            return True
        by_row = other == own or other in self.table.reachable(own)
        if self.table.modules[own].is_plain:
            return by_row
        if self.is_part(path):
            return by_row and other != own and self.table.modules[other].is_plain
        return by_row and not self.is_config(path)

    def check_file(self, path):
        own = self.module_of(path)
        if own is not None and own not in self.table.modules:
            self.faults.append(f"{self.name(path)}: the folder lib/{own} has no row in lib/layers.txt")
            return
        for number, is_quoted, name in self.includes[path]:
            where = f"{self.name(path)}:{number}"
            target = self.resolve(path, name)
            if target is None:
                is_generated = any((self.root / top / (name + ".in")).exists() for top in ("lib", "apps"))
                if is_quoted and not is_generated and not TORCH_HEADER.match(name):
                    self.faults.append(f'{where}: "{name}" is no file of lib/; system headers are included with <>')
            elif own is not None and self.module_of(target) is None:
                self.faults.append(f"{where}: lib/ may not include {self.name(target)}")
            elif own is not None and not self.allows(path, target):
                self.faults.append(f"{where}: {self.describe(path)} may not include {name} (lib/layers.txt)")
        if self.must_be_torch_free(path):
            chain = self.torch_chain(path)
            if chain:
                self.faults.append(f"{self.name(path)}: must be free of torch, but reaches it: {' -> '.join(chain)}")

    def describe(self, path):
        if self.is_config(path):
            return "a *_config file"
        return f"the part {self.module_of(path)}/{path.stem}" if self.is_part(path) else f"module {self.module_of(path)}"

    def check(self):
        check_table(self.table, self.faults)
        for path in self.sources:
            self.check_file(path)
        return self.faults


GOOD_TREE = {
    "lib/layers.txt": "base 0 plain -\nconfig 1 plain base\nkernels 2 torch base\noptim 3 torch config kernels\ntext 2 plain config\npart optim/schedule\n",
    "lib/base/error.h": "#include <string>\n",
    "lib/optim/adamw.h": '#include <torch/types.h>\n#include "optim/adamw_config.h"\n#include "base/error.h"\n',
    "lib/optim/adamw_config.h": '#include "config/fields.h"\n',
    "lib/optim/schedule.h": '#include "base/error.h"\n',
    "lib/config/fields.h": "",
    "lib/kernels/norm.h": "#include <ATen/core/Tensor.h>\n",
    "lib/text/words.h": '#include "optim/adamw_config.h"\n',
    "apps/dsft/main.cpp": '#include "optim/schedule.h"\n#include "text/words.h"\n',
    "apps/dsft-trainer/main.cpp": '#include "optim/adamw.h"\n',
}
BAD_TREES = [  # (what is wrong, changed files, words of the expected fault)
    ("an upward include", {"lib/text/words.h": '#include "optim/adamw.h"\n'}, "module text may not include optim/adamw.h"),
    ("a sideways include", {"lib/kernels/norm.h": '#include "text/words.h"\n'}, "module kernels may not include text/words.h"),
    ("torch in a plain module", {"lib/text/words.cpp": "#include <torch/torch.h>\n"}, "lib/text/words.cpp: must be free of torch"),
    ("torch in a config header", {"lib/optim/adamw_config.h": "#include <c10/core/Device.h>\n"}, "lib/optim/adamw_config.h: must be free of torch"),
    ("a config file that includes its module", {"lib/optim/adamw_config.cpp": '#include "optim/adamw.h"\n'}, "a *_config file may not include optim/adamw.h"),
    ("torch in a part", {"lib/optim/schedule.cpp": '#include <torch/torch.h>\n'}, "lib/optim/schedule.cpp: must be free of torch"),
    ("a part that includes a torch module", {"lib/optim/schedule.h": '#include "kernels/norm.h"\n'}, "the part optim/schedule may not include kernels/norm.h"),
    ("torch reached from apps/dsft", {"apps/dsft/main.cpp": '#include "kernels/norm.h"\n'}, "apps/dsft/main.cpp -> lib/kernels/norm.h -> ATen"),
    ("torch reached from apps/options", {"apps/options/dtype.h": '#include "optim/adamw.h"\n'}, "apps/options/dtype.h: must be free of torch"),
    ("a folder without a row", {"lib/extra/x.h": ""}, "lib/extra has no row"),
    ("a cycle", {"lib/layers.txt": GOOD_TREE["lib/layers.txt"].replace("config 1 plain base", "config 1 plain base text")}, "does not stand above it"),
    ("a plain row on a torch row", {"lib/layers.txt": GOOD_TREE["lib/layers.txt"].replace("text 2 plain config", "text 3 plain config kernels")}, "includes the torch module kernels"),
    ("an unknown module", {"lib/layers.txt": GOOD_TREE["lib/layers.txt"].replace("text 2 plain config", "text 2 plain confg")}, "no module of the table"),
    ("a broken row", {"lib/layers.txt": GOOD_TREE["lib/layers.txt"] + "weird row\n"}, "cannot read this row"),
    ("an include of a missing file", {"lib/text/words.h": '#include "text/wrods.h"\n'}, "is no file of lib/"),
    ("lib including an app", {"lib/text/words.h": '#include "dsft/command.h"\n', "apps/dsft/command.h": ""}, "lib/ may not include apps/dsft/command.h"),
]


def faults_of_tree(files):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return Tree(root).check()


def test_the_rules():
    unexpected = faults_of_tree(GOOD_TREE)
    if unexpected:
        sys.exit("check_layers.py: self-test: faults in a good tree:\n" + "\n".join(unexpected))
    for what, changed, words in BAD_TREES:
        faults = faults_of_tree({**GOOD_TREE, **changed})
        if not any(words in fault for fault in faults):
            sys.exit(f"check_layers.py: self-test: {what} gave no fault with '{words}', but: {faults}")


if __name__ == "__main__":
    test_the_rules()
    tree = Tree(Path(__file__).resolve().parent.parent)
    faults = tree.check()
    print("\n".join(faults) if faults else
          f"layers: {len(tree.sources)} files of {len(tree.table.modules)} modules agree with lib/layers.txt; {len(BAD_TREES)} made-up faults were found")
    sys.exit(1 if faults else 0)
