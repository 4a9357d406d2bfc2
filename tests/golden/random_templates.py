"""Random templates with Jinja's results, to compare with beside the golden ones:

    python3 tests/golden/random_templates.py /tmp/random.json 5000 SEED
    CUDDLE_TEMPLATES=/tmp/random.json build/tests/unit/test_jinja
"""
import copy
import json
import random
import re
import sys

from make_templates import NOW, environment
from template_cases import CONVERSATIONS, DATA, TOOLS

ATOMS = ["1", "0", "-3", "2.5", "'a'", "''", "'Hello World'", "' x\\n y '", "'é漢ΑΣ'", "true", "false", "none", "[]", "[3, 1, 2]", "['b', 'A', 'c']",
         "[[1, 'x'], [2, 'y']]", "{}", "{'a': 1, 'b': [2, 3]}", "(1, 2)", "d", "items", "s", "xs", "t", "e", "n", "f", "big", "undef", "d.a", "items[0]", "items[-1].n",
         "d.c.x", "range(4)", "'1,2,3'", "'42'", "'3.7'", "loop", "ns", "ns.v", "i", "x", "'%s-%05.1f'", "'{}:{:>6}'", "'a.b.0'", "10", "[none, 1, 'z', []]", "'<b>&\"\\''"]
BINARY = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", ">", "<=", ">=", "in", "not in", "and", "or"]
FILTERS = ["upper", "lower", "title", "capitalize", "trim", "length", "first", "last", "list", "join", "join(', ')", "join('-', attribute='n')", "string", "int", "float",
           "int(7)", "int(0, 16)", "abs", "round", "round(1)", "round(1, 'floor')", "sort", "sort(reverse=true)", "sort(attribute='n')", "sort(case_sensitive=true)", "unique | list",
           "reverse", "reverse | list", "map('upper') | list", "map(attribute='n') | list", "map('string') | join", "map(attribute='q', default='?') | list", "select | list", "select('string') | list",
           "reject('none') | list", "selectattr('on') | list", "selectattr('age', 'defined') | list", "rejectattr('n', 'eq', 'Bob') | list", "tojson", "tojson(indent=2)", "tojson(sort_keys=true)",
           "default('D')", "default('D', true)", "d", "replace('a', 'bb')", "replace('l', '', 1)", "indent", "indent(2, true)", "indent('>', blank=true)", "truncate(7)", "truncate(5, true, '', 0)", "center(9)",
           "wordcount", "urlencode", "filesizeformat", "dictsort", "dictsort(by='value')", "items | list", "sum", "sum(start=1)", "min", "max", "batch(2) | list", "batch(3, 0) | list",
           "slice(2) | list", "slice(3, 'f') | list", "groupby('on')", "format('q', 1)", "attr('x')", "count", "map('int') | sum", "map('length') | list", "map('first') | list"]
METHODS = [".upper()", ".strip()", ".split()", ".split(',')", ".split('l', 1)", ".rsplit(' ', 1)", ".title()", ".startswith('H')", ".endswith('d')", ".replace('o', '0')", ".find('l')", ".count('l')", ".lstrip('H')", ".rstrip()",
           ".items() | list", ".keys() | list", ".values() | list", ".get('a')", ".get('zz', 5)", ".index(1)", ".join(['p', 'q'])", ".splitlines()", ".capitalize()", ".isdigit()", ".partition('l')", ".zfill(6)", ".center(8, '*')", ".format(1, 'z')",
           "[0]", "[-1]", "[1:]", "[:2]", "[::-1]", "[::2]", "['a']", "[1:-1]", ".a", ".n", ".0", "[5]", "[-2:]", ".swapcase()", ".istitle()", ".islower()", ".removeprefix('He')", ".rfind('l')", ".nosuch"]
TESTS = ["defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "mapping", "sequence", "iterable", "odd", "even", "true", "false", "lower", "upper", "divisibleby 2", "eq 1", "in [1, 2, 'a']", "gt 1", "sameas none", "callable", "ne 'a'"]


def expression(r, depth=0):
    kind = r.random()
    if depth > 3 or kind < 0.25:
        return r.choice(ATOMS)
    inner = lambda: expression(r, depth + 1)
    if kind < 0.45:
        return f"({inner()}) | {r.choice(FILTERS)}"
    if kind < 0.6:
        return f"({inner()} if d else 1){r.choice(METHODS)}"  # no constant: Jinja folds those, and hides their errors
    if kind < 0.78:
        return f"{inner()} {r.choice(BINARY)} {inner()}"
    if kind < 0.86:
        return f"({inner()} is {r.choice(['', 'not '])}{r.choice(TESTS)})"
    if kind < 0.9:
        return f"({inner()} if {inner()} else {inner()})"
    if kind < 0.94:
        return f"[{inner()}, {inner()}]"
    if kind < 0.97:
        return "{'k': %s, 'l': %s}" % (inner(), inner())
    return r.choice(["not ", "-"]) + inner()


def gap(r):
    return r.choice(["", "", " ", "\n", "  \n ", "\n\n", " text ", "\n  text\n", "\t", "<b>\n"])


def tag(r, inside):
    return "{%" + r.choice(["", "", "", "-", "+"]) + f" {inside} " + r.choice(["", "", "", "-", "+"]) + "%}"


def statement(r, depth=0):
    kind = r.random()
    body = lambda: template(r, depth + 1)
    if depth > 2 or kind < 0.4:
        return "{{" + r.choice(["", "", "-"]) + f" {expression(r)} " + r.choice(["", "", "-"]) + "}}"
    if kind < 0.55:
        loop = r.choice(["", " if i", " if loop is undefined", " recursive"])
        also = tag(r, "else") + body() if r.random() < 0.3 else ""
        jump = tag(r, f"if {expression(r, 2)}") + tag(r, r.choice(["break", "continue"])) + tag(r, "endif") if r.random() < 0.2 else ""
        return tag(r, f"for i in {expression(r, 2)}{loop}") + jump + body() + "{{ loop.index }}{{ loop.last }}" + also + tag(r, "endfor")
    if kind < 0.7:
        also = tag(r, f"elif {expression(r, 2)}") + body() if r.random() < 0.3 else ""
        also += tag(r, "else") + body() if r.random() < 0.4 else ""
        return tag(r, f"if {expression(r, 1)}") + body() + also + tag(r, "endif")
    if kind < 0.8:
        return tag(r, f"set x = {expression(r, 1)}")
    if kind < 0.84:
        return tag(r, f"set ns.v = {expression(r, 1)}")
    if kind < 0.88:
        return tag(r, "set x" + r.choice(["", " | upper", " | trim"])) + body() + tag(r, "endset")
    if kind < 0.92:
        return tag(r, "macro m(i, x=5)") + body() + tag(r, "endmacro") + "{{ m(" + expression(r, 2) + ") }}"
    if kind < 0.94:
        return tag(r, "filter upper") + body() + tag(r, "endfilter")
    if kind < 0.96:
        return tag(r, "with x = " + expression(r, 2)) + body() + tag(r, "endwith")
    if kind < 0.98:
        return "{#" + r.choice(["", "-"]) + " c " + r.choice(["", "-"]) + "#}"
    return tag(r, "raw") + " {{ x }} \n" + tag(r, "endraw")


def template(r, depth=0):
    return "".join(gap(r) + statement(r, depth) for _ in range(r.randint(1, 3))) + gap(r)


def main():
    path, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    r, cases = random.Random(seed), []
    env = environment()
    env.optimized = False
    while len(cases) < count:
        source = r.choice(["{% set ns = namespace(v=1) %}", ""]) + (template(r) if r.random() < 0.5 else "{{ " + expression(r) + " }}")
        case = {"name": f"random {len(cases)}", "template": source, "data": True}
        try:
            case["text"] = env.from_string(source).render(**copy.deepcopy(DATA))  # += of a list changes it
        except Exception as e:
            case["error"] = f"{type(e).__name__}: {e}"[:120]
        # addresses, and what cuddle refuses on purpose: integers over 64 bits
        if not re.search(r"object at 0x|<built-in|<bound|LoopContext|Macro '|\d{19,}", case.get("text", "")) and "OverflowError" not in case.get("error", ""):
            cases.append(case)
    with open(path, "w", encoding="utf-8") as f:
        json.dump({"now": NOW, "data": DATA, "tools": TOOLS, "conversations": CONVERSATIONS, "cases": cases}, f)


if __name__ == "__main__":
    main()
