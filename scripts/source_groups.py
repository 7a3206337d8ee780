"""Which C++ files can be compiled as one: a file that includes each of them.

Most of a file's time goes into headers that its neighbours include, too. Files do not go together where one
gives a name to something of its own, in an anonymous namespace, that the other uses for anything else. That is
judged by the text alone: names are looked up as words. A conflict that the text does not show is an error of the
compiler; another name mends it.

    scripts/source_groups.py MOST FILE...    prints each file behind the number of its group, of at most MOST files
"""

import re
import sys

COMMENT_OR_LITERAL = re.compile(r'R"(\w*)\(.*?\)\1"|"(?:[^"\\\n]|\\.)*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
ANONYMOUS = re.compile(r'^namespace \{$(.*?)^\}  // namespace$', re.DOTALL | re.MULTILINE)
# Definitions begin a line, as clang-format has it. What is defined is the last word before the first of these.
DEFINITION = re.compile(r'^(?!using namespace|template|#)[A-Za-z_][^\n({=;]*?(\w+)(?:\[\w*\])?\s*(?:[({=;]|: )', re.MULTILINE)
# With them, what each of two programs may have under one name: main, and functions of C (whose "C" is "" by then).
FILE_WIDE = re.compile(r'^(?:#define (\w+)|static [^\n({=;]*?(\w+)\s*[({=;]|int (main)\(|extern "" [^\n({=;]*?(\w+)\()',
                       re.MULTILINE)
# All names of a namespace at once: what they are is not in the text, so only files that open the same ones go together.
OPENED = re.compile(r'^using namespace ([\w:]+);', re.MULTILINE)
# Two files may borrow the same; `using type = ...` is of the first kind.
BORROWED = re.compile(r'^(?:using ([\w:]*?(\w+));|namespace ((\w+) = [\w:]+);)', re.MULTILINE)


class Source:
    """What a file names for itself, and all words in it."""

    def __init__(self, path):
        self.path = path
        with open(path, encoding='utf-8') as file:
            text = COMMENT_OR_LITERAL.sub(lambda found: found[0] if found[0] == '// namespace' else '""', file.read())
        self.words = set(re.findall(r'[A-Za-z_]\w*', text))
        self.own = {name for found in FILE_WIDE.findall(text) for name in found if name}
        for namespace in ANONYMOUS.findall(text):
            self.own.update(DEFINITION.findall(namespace))
        self.borrowed = {found[1] or found[3]: found[0] or found[2] for found in BORROWED.findall(text)}
        self.own -= self.borrowed.keys()
        self.opened = set(OPENED.findall(text))

    def goes_with(self, other):
        return (self.opened == other.opened and self.own.isdisjoint(other.words) and other.own.isdisjoint(self.words) and
                all(other.borrowed.get(name, lender) == lender for name, lender in self.borrowed.items()))


def source_groups(paths, most):
    """Lists of paths; each file joins the first group that has room and nothing against it."""
    groups = []
    for source in map(Source, paths):
        for group in groups:
            if len(group) < most and all(source.goes_with(other) for other in group):
                group.append(source)
                break
        else:
            groups.append([source])
    return [[source.path for source in group] for group in groups]


if __name__ == '__main__':
    for number, group in enumerate(source_groups(sys.argv[2:], int(sys.argv[1]))):
        for path in group:
            print(number, path)
