#!/usr/bin/env python3
"""Renders chat templates with Python's jinja2 as transformers sets it up, for src/chat/chat_test.cc.
make_chat_goldens.py OUT.json [TEMPLATE.jinja | DIR]…   without templates: those written here. Needs jinja2.
TSUBU_CHAT_GOLDENS=OUT.json makes the test check further goldens, such as those of published templates."""
import datetime
import json
import pathlib
import sys

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2026, 11, 26, 12, 30)


def render(source, variables):
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    class Generation(jinja2.ext.Extension):
        tags = {"generation"}

        def parse(self, parser):
            lineno = next(parser.stream).lineno
            return jinja2.nodes.Scope(parser.parse_statements(["name:endgeneration"], drop_needle=True), lineno=lineno)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda f: NOW.strftime(f)
    return env.from_string(source).render(**variables)


TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Wetter & <Wind> für einen Ort", "parameters": {
    "type": "object", "properties": {"place": {"type": "string", "description": "name"}, "days": {"type": "integer", "default": 3},
                                     "unit": {"type": "string", "enum": ["C", "F"]}}, "required": ["place"]}}}]
CALL = {"id": "call12345", "type": "function", "function": {"name": "get_weather", "arguments": {"place": "Köln", "days": 2, "x": None, "y": 1.5, "ok": True}}}
SYSTEM, USER, REPLY = {"role": "system", "content": "  Be brief. \n"}, {"role": "user", "content": "Hi, 粒! "}, {"role": "assistant", "content": " Hello. "}
CONVERSATIONS = {
    "one": dict(messages=[USER]),
    "system": dict(messages=[SYSTEM, USER]),
    "long": dict(messages=[SYSTEM, USER, REPLY, {"role": "user", "content": "And\n\nnow?"}]),
    "no prompt": dict(messages=[USER, REPLY], add_generation_prompt=False),
    "thinking": dict(messages=[USER, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes."}, USER]),
    "tools": dict(messages=[SYSTEM, USER], tools=TOOLS),
    "calls": dict(messages=[USER, {"role": "assistant", "content": "", "tool_calls": [CALL]},
                            {"role": "tool", "content": "{\"t\": 4}", "tool_call_id": "call12345", "name": "get_weather"}, REPLY, USER], tools=TOOLS),
    "two users": dict(messages=[USER, USER]),
    "late system": dict(messages=[USER, SYSTEM]),
    "empty": dict(messages=[]),
}

# The constructs of published templates, in templates of our own.
OWN = {
    "chatml": "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
              "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "instruct": "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set sys = messages[0]['content'].strip() %}"
                "{% else %}{% set rest = messages %}{% set sys = false %}{% endif %}{% for m in rest %}"
                "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
                "{% if loop.index0 == 0 and sys != false %}{% set c = '<<S>>\\n' + sys + '\\n<</S>>\\n\\n' + m['content'] %}{% else %}{% set c = m['content'] %}{% endif %}"
                "{% if m['role'] == 'user' %}{{ '[I] ' + c.strip() + ' [/I]' }}{% elif m.role == 'assistant' %}{{ ' ' + c.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
    "headers": """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{#- the system message is taken out #}
{%- if messages and messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|h|>system<|/h|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Tools:\\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- "Today: " + date_string + "\\n" + system_message ~ "<|e|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|h|>' + message['role'] + '<|/h|>\\n\\n'+ message['content'] | trim + '<|e|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("one call at a time") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|h|>assistant<|/h|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {%- for arg_name, arg_val in tool_call.arguments | items %}
            {{- arg_name + '="' ~ arg_val ~ '"' }}
            {%- if not loop.last %}
                {{- ", " }}
            {%- endif %}
            {%- endfor %}
    {%- elif message.role == "tool" %}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|h|>assistant<|/h|>\\n\\n' }}
{%- endif %}
""",
    "reasoning": """{%- set ns = namespace(multi=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi and message.role == "user" and not(message.content.startswith('<r>') and message.content.endswith('</r>')) %}
        {%- set ns.multi = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "assistant" %}
        {%- set content = message.content %}
        {%- set thought = '' %}
        {%- if message.reasoning_content is defined and message.reasoning_content is not none %}
            {%- set thought = message.reasoning_content %}
        {%- elif '</think>' in message.content %}
            {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}
            {%- set thought = message.content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and (loop.last or (not loop.last and thought)) %}
            {{- '<a>\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<a>\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}{{- '\\n' }}{%- endif %}
                {%- if tool_call.function %}
                    {%- set tool_call = tool_call.function %}
                {%- endif %}
                {{- '{"name": "' }}{{- tool_call.name }}{{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}
                    {{- tool_call.arguments }}
                {%- else %}
                    {{- tool_call.arguments | tojson }}
                {%- endif %}
                {{- '}' }}
            {%- endfor %}
        {%- endif %}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}{{- '<u>' }}{%- endif %}
        {{- message.content }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}{{- '</u>\\n' }}{%- endif %}
    {%- else %}
        {{- '<' ~ message.role[:1] ~ '>' + message.content + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<a>\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}""",
    "turns": "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}"
             "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
             "{{ '<turn>' + role + '\\n' + message['content'] | trim + '</turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{'<turn>model\\n'}}{% endif %}",
    "macros": """{%- macro json_type(p, deep=false) -%}
{%- if p.type == "string" -%}{%- if p.enum -%}{{- '"' + p.enum|join('" | "') + '"' -}}{%- else -%}string{%- endif -%}
{%- elif p.type in ["number", "integer"] -%}number{{ ' = ' ~ p.default if p.default is defined }}
{%- else -%}any{%- endif -%}
{%- endmacro -%}
{%- macro wrap(tag) %}<{{ tag }}>{{ caller() }}</{{ tag }}>{% endmacro %}
{% for t in tools or [] %}
{% set f = t.function %}
type {{ f.name }} = (_: {
{% for name, p in f.parameters.properties.items() %}
  // {{ p.description | default('-', true) }}
  {{ name }}{{ '' if name in f.parameters.required else '?' }}: {{ json_type(p) }},
{% endfor %}
}) => any;
{% endfor %}
{% call wrap('b') %}{{ messages|length }}{% endcall %}
""",
    "whitespace": """  {% if true %}
    a
  {% endif %}
  {%+ if true %} b {% endif +%}

x {# gone #} y
   {# a line of its own #}
{%- if true -%}   c   {%- endif -%}   d
{{ 'e' }}
{{- ' f ' -}}
   g{% raw %} {{ not }} {% this %} {% endraw %}
{% set block | upper | trim %} some {{ 'text' }} {% endset %}[{{ block }}]
{% filter replace('o', '0') %}foo{% endfilter %}
{% generation %}said{% endgeneration %}
 end
""",
    "expressions": r"""{{ [1, 2.5, 1e20, -3 // 2, -7 % 3, 7 / 2, 2 ** 10, 2 ** -1, 10 % 3, -7.5 // 2] }}|{{ 1 + 2 * 3 - 4 }}|{{ (1, 'a', none, true) | list }}
{{ {'a': 1, 'b': [true, {'c': "it's"}], 'd': 'tab\t"q"'} }}|{{ {'k': 'ü', 'n': [1, none], 'e': {}, 'l': []} | tojson }}|{{ {'b': 1, 'a': [1, 2]} | tojson(indent=2, sort_keys=true) }}{{ 'ü粒' | tojson(ensure_ascii=true) }}
{{ 'abcdef'[1:4] }} {{ 'abcdef'[::-1] }} {{ '粒子化'[1] }} {{ '粒子化'|length }} {{ 'abc'[-1] }} {{ [1,2,3,4][-2:] }} {{ [1,2,3,4,5][::2] }} {{ [1,2,3][5:] }} {{ 'abc'[10] is undefined }} {{ [1,2,3,4][3:0:-1] }}
{{ 'a' in 'cat' }} {{ 'x' not in ['x'] }} {{ 'k' in {'k': 1} }} {{ not 1 == 2 }} {{ 1 if false }}| {{ 'y' if 0 else 'n' }} {{ 3 > 2 and 2 >= 2 or false }} {{ none is none }} {{ x is defined }} {{ x is not defined }} {{ x }} {{ x | default('d') }} {{ '' | default('e', true) }} {{ '' or 'z' }}
{{ 4 is even }} {{ 3 is divisibleby 3 }} {{ 'a' is string }} {{ 1 is number and true is boolean }} {{ [] is iterable }} {{ {} is mapping }} {{ 1 is eq 1 }} {{ 1.0 is float }} {{ 'a' is in ['a'] }} {{ true is true }} {{ 1 is true }} {{ [] is sequence }} {{ 'A' is upper }}
{{ ' a b  c '.split() }} {{ 'a,b,c'.split(',', 1) }} {{ 'a-b-c'.rsplit('-', 1) }} {{ ' x '.strip() }}| {{ 'xxaxx'.strip('x') }} {{ 'ab' * 3 }} {{ 'a.b'.replace('.', '-') }} {{ 'hello world'.title() }} {{ 'aXb'.upper() }} {{ 'abcb'.find('b') }} {{ 'abcb'.rfind('b') }} {{ 'aaa'.count('a') }} {{ ', '.join(['a', 'b']) }} {{ 'ab'.startswith(('x', 'a')) }} {{ 'prefix-x'.removeprefix('prefix-') }} {{ 'HeLLo'.capitalize() }} {{ "a\nb\n".splitlines() }} {{ '12'.isdigit() }}
{{ [3, 1, 2] | sort | join('-') }} {{ ['b', 'A', 'c'] | sort }} {{ [3, 1, 2] | sort(reverse=true) }} {{ [1, 2, 3] | first }} {{ [1, 2, 3] | last }} {{ [1, 2, 3] | sum }} {{ [1, 5, 2] | max }} {{ [[1, 2], [3]] | map('length') | list }} {{ [{'a': 1}, {'a': 2}] | map(attribute='a') | list }} {{ [{'a': 1}, {'a': 2}] | selectattr('a', 'equalto', 2) | list }} {{ [1, 2, 3, 4] | select('odd') | list }} {{ [1, 2, 3] | reject('eq', 2) | list }} {{ [1, 1, 2] | unique | list }} {{ [1, 2] | reverse | list }} {{ 'abc' | reverse }} {{ {'b': 1, 'a': 2} | dictsort | map('join', '=') | list }} {{ '3' | int + 1 }} {{ 'x' | int(7) }} {{ '2.5' | float }} {{ -3 | abs }} {{ 2.567 | round(2) }} {{ 'a\nb' | indent(2) }} {{ '<&>' | e }} {{ 5 | string + '!' }} {{ 'aBc' | lower }} {{ ['x'] | list }} {{ 'ab' | list }}
{% for i in range(3) %}{{ loop.index }}/{{ loop.length }}{{ ',' if not loop.last }}{% else %}none{% endfor %} {% for i in [] %}x{% else %}none{% endfor %} {% for a, b in [[1, 2], [3, 4]] %}{{ a + b }} {% endfor %}{% for i in range(10) if i is odd %}{{ i }}{{ loop.revindex }} {% endfor %}{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %} {% for k in {'p': 1, 'q': 2} %}{{ k }}{{ loop.cycle('-', '+') }}{% endfor %} {% for x in [1, 2] %}{{ loop.previtem is defined }}{{ loop.nextitem }}{% endfor %}
{% set a, b = 1, 2 %}{{ a }}{{ b }} {% set n = namespace(v=0) %}{% for i in range(4) %}{% set n.v = n.v + i %}{% set b = 99 %}{% endfor %}{{ n.v }} {{ b }} {{ dict(a=1).get('z', 5) }} {{ {'a': {'b': [1, {'c': 7}]}}.a.b[1].c }} {{ {'x': 1}['y'] is undefined }} {{ messages[0].nothing is undefined }} {{ {'a': 1}.items() | map('join', '=') | list }} {{ {'a': 1}.keys() | list }} {{ {'a': 1}.values() | list }} {{ 'a' ~ 1 ~ none ~ true ~ 1.0 }} {{ '%s' }} {{ '{}-{x}-{{}}-{}'.format(1, 'b', x=none) }} {{ none | selectattr('a') | list }} {{ "\u7c92\x41" }} {{ 'a' 'b' }} {{ 1_000 }} {{ [1,2] + [3] }} {{ [1, [2]] == [1, [2]] }} {{ {'a': 1} == {'a': 1.0} }} {{ 'a' < 'b' }}
""",
    "errors: undefined attribute": "{{ nothing.here }}",
    "errors: adding": "{{ 'a' + 1 }}",
    "errors: no filter": "{{ 1 | nonsense }}",
    "errors: not closed": "{% if true %}x",
    "errors: stray end": "{% endif %}",
    "errors: bad expression": "{{ 1 + }}",
    "errors: call of text": "{{ 'a'() }}",
    "errors: raise": "{{ raise_exception('no: ' ~ messages|length) }}",
}


def main():
    sources = {}
    for argument in sys.argv[2:]:
        path = pathlib.Path(argument)
        for file in sorted(path.rglob("*.jinja")) if path.is_dir() else [path]:
            sources[file.stem] = file.read_text()
    cases = []
    for name, source in (sources or OWN).items():
        variants = CONVERSATIONS if ":" not in name and name not in ("whitespace", "expressions") else {"one": CONVERSATIONS["one"]}
        for variant, given in variants.items():
            variables = dict(messages=given["messages"], tools=given.get("tools"), add_generation_prompt=given.get("add_generation_prompt", True),
                             documents=None, bos_token="<s>", eos_token="</s>")
            case = dict(name=f"{name}: {variant}", template=source, messages=variables["messages"], tools=variables["tools"],
                        add_generation_prompt=variables["add_generation_prompt"])
            try:
                case["expected"] = render(source, variables)
            except Exception as e:  # whatever Python says: the template does not render
                case["error"] = f"{type(e).__name__}: {e}"
            cases.append(case)
    # Templates are written once.
    templates = sorted({c["template"] for c in cases})
    for c in cases:
        c["template"] = templates.index(c["template"])
    pathlib.Path(sys.argv[1]).write_text(json.dumps(dict(templates=templates, cases=cases), ensure_ascii=False, indent=1) + "\n")
    print(f"{len(cases)} cases, {sum('error' in c for c in cases)} of them errors")


main()
