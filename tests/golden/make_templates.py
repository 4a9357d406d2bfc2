"""Makes tests/golden/templates.json: templates and what Jinja gives, set up as transformers does it.

    python3 tests/golden/make_templates.py            (needs jinja2 3.1.6)

Templates: the lines below, and the chat templates in tests/golden/jinja/. The environment follows
transformers' utils/chat_template_utils.py.
"""
import datetime
import json
import os
import platform
import sys

import jinja2
import jinja2.ext
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

from template_cases import CONVERSATIONS, DATA, LINES, TOOLS

HERE = os.path.dirname(os.path.abspath(__file__))
NOW = 1753772096  # 2025-07-29 06:54:56 UTC


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("run"), [], [], body).set_lineno(line)

    def run(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def strftime_now(format):
    return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).replace(tzinfo=None).strftime(format)


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


def expect(template, variables):
    try:
        return {"text": environment().from_string(template).render(**variables)}
    except Exception as e:
        return {"error": f"{type(e).__name__}: {e}"[:120]}


def lines():
    for i, line in enumerate(LINES):
        template, data = line if isinstance(line, tuple) else (line, False)
        yield {"name": f"line {i}", "template": template, "data": data, **expect(template, DATA if data else {})}


def chats():
    for file in sorted(os.listdir(os.path.join(HERE, "jinja"))):
        with open(os.path.join(HERE, "jinja", file), encoding="utf-8", newline="") as f:
            template = f.read()
        for name, messages in CONVERSATIONS.items():
            for tools, prompt, more in ((False, True, {}), (False, False, {"enable_thinking": False}), (True, True, {})):
                variables = {"messages": messages, "tools": TOOLS if tools else None, "documents": None,
                             "add_generation_prompt": prompt, "bos_token": "<s>", "eos_token": "</s>", **more}
                yield {"name": f"{file}, {name}, tools {tools}, prompt {prompt}", "file": file, "conversation": name,
                       "tools": tools, "prompt": prompt, "vars": more, **expect(template, variables)}


def main():
    out = list(lines()) + list(chats())
    path = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "templates.json")
    with open(path, "w", encoding="utf-8") as f:
        head = {"made_by": "tests/golden/make_templates.py", "jinja2": jinja2.__version__,
                "python": platform.python_version(), "now": NOW, "data": DATA, "tools": TOOLS,
                "conversations": CONVERSATIONS}
        f.write(json.dumps(head, ensure_ascii=False)[:-1] + ',\n"cases": [\n')
        f.write(",\n".join(json.dumps(c, ensure_ascii=False) for c in out))
        f.write("\n]}\n")
    errors = sum("error" in c for c in out)
    print(f"{len(out)} cases, {errors} of them errors, in {path}")


if __name__ == "__main__":
    main()
