"""Definitions from files: read, written, and every mistake at its place."""

from __future__ import annotations

import json
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.core.cep.expressions import Const, Field, Op
from processors.core.cep.loading import DefinitionError, load_definition, load_definitions, to_yaml
from processors.core.cep.model import Definition, Stage, Times
from streams.core.documents import DEPTH_MAX, DOCUMENT_CHARS_MAX, documents_of
from tests.processors.core.cep.strategies import definitions

GOOD = """\
name: three-failures
description: "A tool failed three times \\U0001F642"
topics: [agents.activity]
pattern:
  stages:
    - name: failed
      where: type == 'tool.failed'   # as text
      times: {min: 3, max: 3}
    - name: on
      contiguity: relaxed
      where: {op: ==, args: [{field: type}, "on"]}
  within_ms: 60000
  skip: past_last
"""


def problems(text: str) -> list[str]:
    with pytest.raises(DefinitionError) as caught:
        load_definitions(text, "f.yaml")
    assert str(caught.value) == "\n".join(f"f.yaml:{problem}" for problem in caught.value.problems)
    return [str(problem) for problem in caught.value.problems]


def pattern(body: str) -> list[str]:
    """Problems of a definition with this body of a pattern, which begins in line 3, indented by two."""
    return problems("name: a\npattern:\n" + "".join(f"  {line}\n" for line in dedent(body).strip("\n").splitlines()))


def test_yaml_is_read() -> None:
    """A file becomes a definition, its conditions read from text and from data."""
    definition = load_definition(GOOD)
    assert definition.name == "three-failures"
    assert definition.description.endswith("\U0001f642")
    assert definition.pattern.stages == (
        Stage(name="failed", where=Op("==", (Field("type"), Const("tool.failed"))), times=Times(min=3, max=3)),
        Stage(name="on", contiguity="relaxed", where=Op("==", (Field("type"), Const("on")))),
    )


def read(text: str) -> object:
    """The one document of a file, whatever it means."""
    documents, found = documents_of(text)
    assert not found
    (document,) = documents
    assert not document.problems
    return document.value


@settings(max_examples=60)
@given(definitions)
def test_yaml_and_json_are_inverses(definition: Definition) -> None:
    """A definition is written as YAML, with conditions as text, and as JSON of any style, and is read as the same definition."""
    for text in (
        to_yaml(definition),
        json.dumps(definition.to_data()),
        json.dumps(definition.to_data(), ensure_ascii=False, indent="\t"),
    ):
        assert Definition.model_validate(read(text)) == definition


def test_several_definitions() -> None:
    """Documents behind `---` and lists are read in order; empty documents do not count."""
    one, two = "name: a\npattern: {stages: [{name: x}]}\n", "name: b\npattern: {stages: [{name: x}]}\n"
    assert [d.name for d in load_definitions(f"---\n{one}---\n---\n{two}")] == ["a", "b"]
    assert [d.name for d in load_definitions('[{"name": "a", "pattern": {"stages": [{"name": "x"}]}}]')] == ["a"]
    with pytest.raises(DefinitionError, match="there are 2: a, b"):
        load_definition(f"{one}---\n{two}")
    assert problems(f"{one}---\n{one}") == ["4:7: name: 'a' is defined already, in line 1"]
    body = '{"name": "a", "pattern": {"stages": [{"name": "x"}]}}'
    assert problems(f"[{body}, {body}]") == ["1:66: [1].name: 'a' is defined already, in line 1"]


def test_all_mistakes_are_told_at_once() -> None:
    """One reading tells every mistake, in order of the file."""
    assert [line.split(": ")[0] for line in problems(
        "name: three failures\ntopics: [a b]\ntimedout: true\npattern:\n  stages:\n    - name: failed\n      where: a = 1\n"
        "      times: {min: x}\n    - {name: b, until: 'b >'}\n---\nname: other\n"
    )] == ["1:7", "2:10", "3:1", "7:16", "8:20", "9:28", "11:1"]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (
            "stages: [{name: a, whre: x}]",
            "3:22: pattern.stages[0].whre: no key 'whre' here; there are name, contiguity, negated, where",
        ),
        ("stages: [{name: a, whre: x}]", "Did you mean 'where'?"),
        (
            "stages: [{name: a}]\ntopics: [b]",
            "4:3: pattern.topics: no key 'topics' here; there are stages, within_ms, within, skip. It belongs",
        ),
        (
            "stages: [{name: a, times: {min: 1, macks: 2}}]",
            "3:38: pattern.stages[0].times.macks: no key 'macks' here; there are min, max, within_ms.",
        ),
        ("stages: [{name: a, times: {max: 2}}]", "3:29: pattern.stages[0].times: 'min' is missing"),
        (
            "stages: [{name: a, times: {min: '2'}}]",
            "3:35: pattern.stages[0].times.min: a whole number is wanted, and this is the text '2'",
        ),
        (
            "stages: [{name: a, times: 3}]",
            "3:29: pattern.stages[0].times: a mapping (keys with values) is wanted, and this is the number 3",
        ),
        (
            "stages: [{name: a, optional: yes}]",
            "3:32: pattern.stages[0].optional: true or false is wanted, and this is the text 'yes'",
        ),
        ("stages: [{name: 5}]", "3:19: pattern.stages[0].name: text is wanted, and this is the number 5: put it in quotes"),
        (
            "stages: [{name: null, times: null}]",
            "3:12: pattern.stages[0]: a stage has one of 'name', 'group', 'any_of' and 'all_of'",
        ),
        ("stages: {name: a}", "3:11: pattern.stages: a list ('- ' in front of each item) is wanted, and this is a mapping"),
        ("stages: [a]", "3:12: pattern.stages[0]: a mapping (keys with values) is wanted, and this is the text 'a'"),
        ("stages: []", "3:11: pattern.stages: at least 1 is wanted, and there are 0"),
        ("stages: [{name: a, contiguity: relax}]", "3:34: pattern.stages[0].contiguity: strict, relaxed, any are allowed"),
        ("stages: [{name: a, contiguity: relax}]", "this is the text 'relax'. Did you mean 'relaxed'?"),
        (
            "stages: [{name: a}]\nwithin: 5m",
            "4:11: pattern.within: first_and_last, previous_and_current are allowed, and this is the text '5m'. How long",
        ),
        ("stages: [{name: a}]\nwithin_ms: 0", "4:14: pattern.within_ms: at least 1 is allowed, and this is 0"),
        (
            "stages: [{name: a, times: {min: 1, max: 2000}}]",
            "3:43: pattern.stages[0].times.max: at most 1000 is allowed, and this is 2000",
        ),
        ("stages: [{name: ''}]", "3:19: pattern.stages[0].name: the text is empty"),
        (
            f"stages: [{{name: {'x' * 101}}}]",
            "3:19: pattern.stages[0].name: at most 100 characters are allowed, and there are 101",
        ),
        ("stages: [{all_of: [{name: a}]}]", "3:21: pattern.stages[0].all_of: at least 2 is wanted, and there are 1"),
        (
            f"stages: [{{any_of: [{'{name: a},' * 33}]}}]",
            "3:21: pattern.stages[0].any_of: at most 32 are allowed, and there are 33",
        ),
        ("stages: [{any_of: [{name: a}, {name: b, times: {}}]}]", "3:50: pattern.stages[0].any_of[1][0].times: 'min' is missing"),
        ("stages: [{name: a, where: }]", "3:28: pattern.stages[0].where: there is no condition: leave the key away"),
        ("stages: [{name: a, where: a ==}]", "3:33: pattern.stages[0].where: the condition ends too early; allowed are fields"),
        ("stages: [{name: a, where: a = 1}]", "3:31: pattern.stages[0].where: write '==', not '='"),
        ("stages: [{name: a, where: 'a = 1'}]", "3:32: pattern.stages[0].where: write '==', not '='"),
        ('stages: [{name: a, where: "a =\\t1"}]', "3:29: pattern.stages[0].where: column 3 of the text: write '==', not '='"),
        ("stages:\n- name: a\n  where: |\n\n    a == 1\n    and b ** 2", "8:16: pattern.stages[0].where: no such operator"),
        (
            "stages:\n- name: a\n  where: >\n    a == 1\n    and b ** 2",
            "5:12: pattern.stages[0].where: column 17 of the text: no such operator",
        ),
        (
            "stages:\n- name: a\n  where: a == 1\n    and b ** 2",
            "5:12: pattern.stages[0].where: column 17 of the text: no such operator",
        ),
        (
            "stages: [{name: a, where: {op: and, args: [1, {fild: x}]}}]",
            "3:49: pattern.stages[0].where.args[1]: no expression: {'fild'}",
        ),
        ("stages: [{name: a}, {name: a}]", "3:23: pattern.stages[1]: 'a': two stages have this name"),
        (
            "stages: [{name: a}, {name: b, negated: true, contiguity: relaxed}]",
            "3:23: pattern.stages[1]: 'b': a pattern that ends",
        ),
        ("stages: [{name: a}]\nskip: {strategy: to_last, stage: b}", "4:9: pattern.skip: `skip` names the stage 'b'"),
        (
            "stages: [{name: a}]\nskip: past_lst",
            "4:9: pattern.skip.strategy: no_skip, to_next, past_last, to_first, to_last are allowed",
        ),
    ],
)
def test_a_mistake_in_a_pattern_is_told(body: str, found: str) -> None:
    """A mistake has line, column, path, what is wrong and what is allowed, and is told alone."""
    told = pattern(body)
    assert len(told) == 1
    assert found in told[0]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "1:1: there is no definition"),
        ("# nothing", "1:1: there is no definition"),
        ("5", "1:1: a mapping (keys with values) is wanted, and this is the number 5"),
        ("name: a", "1:1: 'pattern' is missing"),
        ("name: a\nstages: [{name: b}]", "2:1: stages: no key 'stages' here"),
        ("name: a\nstages: [{name: b}]", "It belongs under 'pattern'."),
        ("name: a\nname: b", "2:1: name: 'name' is here twice, the first time in line 1"),
        ("name: !!python/name:os.system x", "1:7: name: tags are not allowed"),
        ("name: !!str 5", "1:7: name: tags are not allowed"),
        ("a: &x {b: 1}\nc: {<<: *x}", "2:5: c: merge keys ('<<') are not allowed"),
        ("1: a", "1:1: a key is text: put it in quotes"),
        ("[a]: b", "1:1: a key is text"),
        ("name: [1, 2", "no YAML: while parsing a flow sequence, expected ',' or ']'"),
        ("a: b: c", "1:5: no YAML: mapping values are not allowed here; a text with ': ' in it stands in quotes"),
        (
            "a:\n\tb: c",
            "2:1: no YAML: while scanning for the next token, found character '\\t' that cannot start any token; indent with",
        ),
        ("a: b\nc: \x01", "2:4: no YAML: a control character"),
        ('{"name": "a",\n\t"pattern" 5}', "2:"),
        ("[" * (DEPTH_MAX + 2) + "]" * (DEPTH_MAX + 2), f"values nest deeper than {DEPTH_MAX}"),
        ("[" * 5000, f"1:1: values nest deeper than {DEPTH_MAX}"),
        ("- &a [*a]", "or contain themselves"),
        ("#" * (DOCUMENT_CHARS_MAX + 1), "at most 262144 are allowed"),
        (
            "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]),
            "more than 20000 values",
        ),
    ],
)
def test_a_mistake_in_a_file_is_told(text: str, found: str) -> None:
    """What is no YAML, or YAML that has surprised somebody, is refused with its place, however large it unfolds."""
    assert found in "\n".join(problems(text))


def test_scalars_are_those_of_yaml_1_2() -> None:
    """`on`, dates and times of day are text; numbers may have exponents; what is in quotes is text."""
    assert load_definition(
        "name: 'on'\ndescription: 12:30\nkey: 2020-01-01\npattern:\n  stages:\n    - {name: no, where: {op: in, args:"
        " [{field: a}, [1e3, 0x10, 0o10, -.5, +3, ~, True, '5', .5e-1, 1_000]]}}\n"
    ) == Definition.model_validate(
        {
            "name": "on",
            "description": "12:30",
            "key": "2020-01-01",
            "pattern": {
                "stages": [
                    {
                        "name": "no",
                        "where": Op("in", (Field("a"), Const((1000.0, 16, 8, -0.5, 3, None, True, "5", 0.05, "1_000")))),
                    }
                ]
            },
        }
    )
    assert pattern("stages: [{name: a, where: {op: '>', args: [.inf, -.nan]}}]") == [
        "3:46: pattern.stages[0].where.args[0]: inf is no number that can be stored; numbers are finite"
    ]


@pytest.mark.parametrize("name", ["1e3", "0o17", "no", "null", "~", "0x1F", "+.5", "2020-01-01", "- a", "{a", "<<", "#b"])
def test_text_that_looks_like_something_else_is_quoted(name: str) -> None:
    """What is written is read as the same text, whatever a YAML of another version makes of it."""
    definition = Definition.model_validate({"name": "a", "pattern": {"stages": [{"name": name}]}})
    assert load_definition(to_yaml(definition)) == definition


def test_aliases_are_for_reuse() -> None:
    """A value may be named once and used again."""
    definition = load_definition("name: a\npattern:\n  stages:\n    - {name: x, where: &w a == 1}\n    - {name: y, where: *w}\n")
    first, second = definition.pattern.stages
    assert first.where == second.where == Op("==", (Field("a"), Const(1)))


@settings(max_examples=60)
@given(st.text(max_size=40) | st.text("name: pattern{}[]-,&*!|>'\"\n #:stages", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text raises anything but the error that says where and why."""
    try:
        load_definitions(text)
    except DefinitionError as error:
        places = [(problem.line, problem.column) for problem in error.problems]
    else:
        return
    assert places
    assert min(min(place) for place in places) >= 1
