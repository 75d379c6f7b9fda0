from __future__ import annotations

import pytest

from quire.errors import ConfigError, InvalidValue, NotSupported
from quire.text.template import RESERVED_VARIABLES, ChatTemplate

Messages = list[dict[str, object]]

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA2 = """{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}
{%- set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}
{%- set system_message = false %}{% endif %}{% for message in loop_messages %}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}
{%- if loop.index0 == 0 and system_message != false %}
{%- set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}
{%- else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}
{{- bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}
{{- ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"""
TOOLS = """{%- if tools %}{{- '# Tools\\n' }}{%- for tool in tools %}{{- tool | tojson }}
{{- '\\n' }}{%- endfor %}{%- endif %}
{%- set ns = namespace(last=-1) %}
{%- for message in messages %}{%- if message.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}{%- set content = message.content %}
    {%- else %}{%- set content = '' %}{%- endif %}
    {{- '<' + message.role + '>' }}
    {%- generation %}{{- content.split('</think>')[-1].lstrip('\\n') }}{%- endgeneration %}
    {%- for call in message.tool_calls or [] %}
        {%- if call.function %}{%- set call = call.function %}{%- endif %}
        {{- '{"name": "' + call.name + '", "arguments": ' + (call.arguments | tojson) + '}' }}
    {%- endfor %}
    {%- if loop.index0 == ns.last %}{{- '*' }}{%- endif %}
    {%- if loop.index0 > 100 %}{%- break %}{%- endif %}
{% endfor %}"""
PARTS = """{% for m in messages %}{{ m.role }}:{% for part in m['content'] %}
{%- if part.type == 'text' %}[{{ part.text }}]{% endif %}
{%- endfor %};{% endfor %}"""
MACRO = """{% macro show(content) %}{% if content is string %}{{ content }}{% else %}
{%- for item in content %}[{{ item.text }}]
{%- endfor %}{% endif %}{% endmacro %}{% for m in messages %}{{ show(m.content) }}{% endfor %}"""
CHAT: Messages = [
    {"role": "system", "content": "Be <brief> & 'kind'."},
    {"role": "user", "content": "  Grüße 😀 "},
    {"role": "assistant", "content": "<think>x</think>\nHi "},
    {"role": "user", "content": "Bye"},
]


def test_published_ways_of_writing_render_as_the_reference_does() -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    tools = [
        {"type": "function", "function": {"name": "f", "description": 'é <b> "q"', "parameters": {"a": [1, 2.5, None]}}}
    ]
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    for source in (CHATML, LLAMA2, TOOLS):
        for generation in (True, False):
            expected, _ = render_jinja_template(
                [CHAT], tools, None, source, add_generation_prompt=generation, **special
            )
            template = ChatTemplate(source, special)
            assert template.render(CHAT, tools=tools, add_generation_prompt=generation) == expected[0]


@pytest.mark.parametrize("source", [CHATML, LLAMA2])
@pytest.mark.parametrize("content", ["So it is", "So it is ", " So"])
def test_continuing_the_last_message_renders_as_the_reference_does(source: str, content: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    chat = [*CHAT[:2], {"role": "assistant", "content": content}]
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    expected, _ = render_jinja_template([chat], None, None, source, continue_final_message=True, **special)
    got = ChatTemplate(source, special).render(chat, continue_final_message=True, add_generation_prompt=False)
    assert got == expected[0]


@pytest.mark.parametrize(
    ("source", "form"),
    [(CHATML, "string"), (LLAMA2, "string"), (TOOLS, "string"), (PARTS, "openai"), (MACRO, "openai")],
)
def test_the_form_of_content_is_read_from_the_template(source: str, form: str) -> None:
    assert ChatTemplate(source).content_format == form


def test_content_reaches_the_template_in_its_form() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert ChatTemplate("{{ messages[0].content }}").render([{"role": "user", "content": parts}]) == "a\nb"
    assert ChatTemplate(PARTS).render([{"role": "user", "content": parts}]) == "user:[a][b];"
    assert ChatTemplate(PARTS).render([{"role": "user", "content": "a"}]) == "user:[a];"
    assert ChatTemplate(MACRO).render([{"role": "user", "content": "a"}]) == "a"
    assert ChatTemplate(PARTS, content_format="string").content_format == "string"


def test_content_that_is_missing_is_empty() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"b": 1, "a": "é"}'}}
    rendered = ChatTemplate(TOOLS).render(
        [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [call]}]
    )
    assert '{"name": "f", "arguments": {"b": 1, "a": "é"}}' in rendered


def test_reasoning_has_both_of_its_names() -> None:
    template = ChatTemplate("{{ messages[0].reasoning_content }}|{{ messages[0].reasoning }}")
    for name in ("reasoning", "reasoning_content"):
        assert template.render([{"role": "assistant", "content": "", name: "hm"}]) == "hm|hm"


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({}, "messages[0].role"),
        ({"role": 5}, "messages[0].role"),
        ({"role": "x" * 65}, "messages[0].role"),
        ({"role": "user", "content": 5}, "messages[0].content"),
        ({"role": "user", "content": [5]}, "messages[0].content[0]"),
        ({"role": "user", "content": [{"type": "odd"}]}, "messages[0].content[0].type"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[0].content[0].text"),
        ({"role": "assistant", "tool_calls": 5}, "messages[0].tool_calls"),
        ({"role": "assistant", "tool_calls": [{}]}, "messages[0].tool_calls[0].function"),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
    ],
)  # fmt: skip
def test_a_wrong_message_is_named_by_its_path(message: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        ChatTemplate(CHATML).render([message])
    assert caught.value.param == param


def test_media_are_said_to_be_unserved() -> None:
    with pytest.raises(NotSupported, match="text only"):
        ChatTemplate(CHATML).render([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}])


def test_no_messages_are_refused() -> None:
    with pytest.raises(InvalidValue, match="at least one"):
        ChatTemplate(CHATML).render([])


@pytest.mark.parametrize("name", [*sorted(RESERVED_VARIABLES), "__class__", "_x", "bos_token", "a b", "", "x" * 65])
def test_reserved_names_cannot_be_set(name: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        ChatTemplate(CHATML, {"bos_token": "<s>"}).render(CHAT, variables={name: "x"})
    assert (caught.value.param or "").startswith("chat_template_kwargs")


def test_other_variables_reach_the_template() -> None:
    template = ChatTemplate("{{ enable_thinking }}{{ bos_token }}", {"bos_token": "<s>"})
    assert template.render(CHAT, variables={"enable_thinking": False}) == "False<s>"


@pytest.mark.parametrize("variables", [{"a": "x" * 70_000}, {f"n{at}": 1 for at in range(65)}, {"a": object()}])
def test_variables_are_bounded(variables: dict[str, object]) -> None:
    with pytest.raises(InvalidValue):
        ChatTemplate(CHATML).render(CHAT, variables=variables)


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('no such thing') }}",
        "{{ missing.attribute }}",
        "{{ 1 / 0 }}",
        "{{ 'a' + 5 }}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{{ j }}{% endfor %}{% endfor %}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
        "{{ 'a' * 10 ** 10 }}",
        "{{ 10 ** 1000000 }}",
        "{{ [0] * 100000000 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:1000000000d}'.format(1) }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ self.__init__.__globals__ }}",
        "{{ ().__class__.__base__ }}",
        "{{ 'x'['format']() ~ '{:{}}'['format'](1, 10 ** 9) }}",
        "{% include 'x' %}",
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[1, 2, 3]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{{ 'x'.ljust(10 ** 10) }}",
        "{{ 'x' | center(10000000000) }}",
        "{{ 'aaaaaaaaaaaaaaaaaaaa'.replace('a', 'b' * 900000).replace('b', 'c' * 900000) }}",
    ],
)
def test_whatever_a_template_does_is_one_refusal_in_bounded_time(source: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        ChatTemplate(source).render(CHAT)
    assert caught.value.param == "messages"
    assert len(caught.value.message) < 400
    assert "\n" not in caught.value.message


def test_a_source_that_is_no_template_is_an_error_of_configuration() -> None:
    with pytest.raises(ConfigError, match="line 2"):
        ChatTemplate("a\n{% if %}")


def test_chats_with_tools_use_the_template_for_tools() -> None:
    template = ChatTemplate("plain", tool_source="tools")
    assert template.render(CHAT) == "plain"
    assert template.render(CHAT, tools=[{"type": "function"}]) == "tools"


def test_a_message_that_the_template_leaves_out_cannot_be_continued() -> None:
    with pytest.raises(InvalidValue, match="leaves out"):
        ChatTemplate("{{ messages[0].content }}").render(CHAT, continue_final_message=True, add_generation_prompt=False)
    with pytest.raises(InvalidValue, match="exclude"):
        ChatTemplate(CHATML).render(CHAT, continue_final_message=True)
