"""Values come back exactly as they were given, or are refused by name; keys, names and path parts likewise."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import string
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_store.core import limits
from cluster_store.core.cluster import group_id
from cluster_store.core.errors import InvalidValue, OverLimit, Refused
from cluster_store.core.registers import group_level, setting_path, valid_path
from cluster_store.core.values import (
    KEY_BYTES_MAX,
    check_json,
    check_key,
    check_name,
    from_python,
    parse_argument,
    quote_part,
    show,
    to_python,
    unquote_part,
)
from tests.strategies import json_values, texts

THIRTY_DIGITS = "123456789012345678901234567890"


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("hello world", '"hello world"'),
        ("", '""'),
        ("é", '"é"'),
        ("1.10", '"1.10"'),
        ("007", '"007"'),
        ("1e5", '"1e5"'),
        ("1e400", '"1e400"'),
        ("-0", '"-0"'),
        ("+1", '"+1"'),
        (".5", '".5"'),
        (" 5", '" 5"'),
        ("5 ", '"5 "'),
        ("5\n", '"5\\n"'),
        ("٣", '"٣"'),
        ("NaN", '"NaN"'),
        ("Infinity", '"Infinity"'),
        ("True", '"True"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("a\\b", '"a\\\\b"'),
        ("0", "0"),
        ("-5", "-5"),
        ("1.5", "1.5"),
        ("-0.0", "-0.0"),
        ("1e+22", "1e+22"),
        (THIRTY_DIGITS, THIRTY_DIGITS),
        ("true", "true"),
        ("false", "false"),
        ("null", "null"),
        ('"quoted"', '"quoted"'),
        ('"1.10"', '"1.10"'),
        ('"  blanks  "', '"  blanks  "'),
        ('"caf\\u00e9 \\ud83d\\ude00"', '"café 😀"'),
        ("[]", "[]"),
        ('[1, 2.5 ,"x"]\n', '[1,2.5,"x"]'),
        ('{ "b": 1,\t"a": {} }', '{"b":1,"a":{}}'),
    ],
)
def test_an_argument_is_json_exactly_where_json_would_print_it_so(typed: str, kept: str) -> None:
    """Whatever JSON would print otherwise is a string, as it was typed."""
    assert parse_argument(typed) == kept


@given(texts.filter(lambda text: not text.startswith(("{", "[", '"'))))
def test_a_bare_word_is_shown_as_it_was_typed(text: str) -> None:
    """Without a leading bracket, brace or quote nothing is refused and nothing changes."""
    assert show(parse_argument(text)) == text


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("[1,", r"the value: line 1, column 4: \[1\]: expected a value, found the end"),
        ("[1 2]", r"line 1, column 4: expected , or \]"),
        ('{"a" 1}', r"column 6: expected : after the member name"),
        ("{a: 1}", r'column 2: expected a member name in "quotes"'),
        ('"open', r"column 1: unterminated string"),
        ('"a" b', r"column 5: there is more after the end"),
        ("[ham] hello", r"column 2: \[0\]: ham is not a JSON value"),
        ("[NaN]", r"column 2: \[0\]: NaN is not a JSON value"),
        ("[1.10]", r"column 2: \[0\]: the number 1\.10 would come back as 1\.1"),
    ],
)
def test_an_argument_that_begins_like_json_must_be_json(typed: str, why: str) -> None:
    """The refusal tells where it is not, since JSON was surely meant."""
    with pytest.raises(InvalidValue, match=why):
        parse_argument(typed)


def test_the_hint_shows_how_to_give_json_like_text_as_a_string() -> None:
    """What it says to type is taken, and is the string that was typed first."""
    with pytest.raises(InvalidValue) as refused:
        parse_argument("{now} it's")
    assert refused.value.hint == """to keep it all as a string, give '"{now} it'"'"'s"'"""
    assert parse_argument('"{now} it\'s"') == '"{now} it\'s"'


def test_an_argument_that_was_not_utf8_is_refused() -> None:
    """Bytes that Python could not decode arrive as unpaired surrogates."""
    with pytest.raises(InvalidValue, match=r"character 4, \\udce9, is an unpaired surrogate"):
        parse_argument("caf\udce9")


@given(json_values)
def test_values_come_back_from_stored_text(value: Any) -> None:
    """Stored text has one form, which the standard library reads as the same value."""
    text = from_python(value, "key")
    assert repr(to_python(text)) == repr(value)
    assert check_json(text, "key") == text
    assert check_json(json.dumps(value, indent=3), "key") == text


@given(st.text(st.sampled_from('[]{},:"\\/ \n0123456789.eE+-truefalsn\u0001é')))
def test_nothing_is_taken_that_is_not_json(text: str) -> None:
    """Either a text is refused, or the standard library reads the same from it as from what is stored."""
    try:
        kept = check_json(text, "key")
    except InvalidValue:
        return
    assert json.loads(kept) == json.loads(text)


@given(
    st.one_of(
        st.decimals(allow_nan=False, allow_infinity=False).map(str),
        st.from_regex(r"-?[0-9]{1,20}(\.[0-9]{1,20})?", fullmatch=True),
    )
)
def test_a_number_is_kept_or_refused_never_changed(word: str) -> None:
    """No digit is lost without a word."""
    try:
        survives = json.dumps(json.loads(word)) == word
    except json.JSONDecodeError:
        survives = False
    if survives:
        assert check_json(word, "key") == word
    else:
        with pytest.raises(InvalidValue, match="key: line 1, column 1: "):
            check_json(word, "key")


@pytest.mark.parametrize("digits", [30, 4000, 4001, 4301, limits.VALUE_BYTES_MAX])
def test_integers_have_any_number_of_digits(digits: int) -> None:
    """Also beyond the length up to which Python converts integers."""
    text = "9" * digits
    assert check_json(text, "key") == text
    value = to_python(text)
    assert value == 10**digits - 1
    assert from_python(value, "key") == text
    assert parse_argument(text) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1.10", r"key: line 1, column 1: the number 1\.10 would come back as 1\.1"),
        ("1e400", r"the number 1e400 would come back as inf"),
        ("-0", r"the number -0 would come back as 0"),
        ("0.1000000000000000055", r"would come back as 0\.1"),
        ('{"a": [1, {"b": 1e5}]}', r"column 17: a\[1\]\.b: the number 1e5 would come back as 100000\.0"),
        ('{"a": 1,\n "a": 2}', r"key: line 2, column 2: the member 'a' is there twice, first at line 1, column 2"),
        ('["\\ud800"]', r"column 2: \[0\]: the string has an unpaired surrogate"),
        ('{"\\udc00x": 1}', r"the string has an unpaired surrogate"),
        ("[" * 65, r"column 65: .*: nested more than 64 deep"),
        ("NaN", r"NaN is not a JSON value"),
        ("-Infinity", r"-Infinity is not a JSON value"),
        ("01", r"01 is not a JSON value"),
        ("nul", r"nul is not a JSON value"),
        ("", r"expected a value, found the end"),
        ("'a'", r"expected a value, found \"'\""),
        ("[1,]", r"column 4: \[1\]: expected a value, found '\]'"),
        ('{"a":1,}', r"column 8: expected a member name"),
        ('{"a":1 "b":2}', r"column 8: expected , or }"),
        ('"a\nb"', r"line 1, column 3: invalid control character"),
        ('"\\x"', r"column 2: invalid \\escape"),
        ("\ufeff1", r"column 1: expected a value"),
    ],
)
def test_json_that_would_not_come_back_is_refused_by_name(text: str, why: str) -> None:
    """The message has the key or file, the place, and what is wrong there."""
    with pytest.raises(InvalidValue, match=why):
        check_json(text, "key")


def test_nesting_is_taken_up_to_its_bound() -> None:
    """A value that is read as JSON and one given by a program have the same bound."""
    deepest = "[" * limits.JSON_DEPTH_MAX + "]" * limits.JSON_DEPTH_MAX
    assert check_json(deepest, "key") == deepest
    with pytest.raises(InvalidValue, match="nested more than 64 deep"):
        from_python([to_python(deepest)], "key")


def test_a_value_is_taken_up_to_its_bound_in_bytes() -> None:
    """The bound is of the stored text, with its quotes, in UTF-8."""
    longest = "é" * (limits.VALUE_BYTES_MAX // 2 - 1)
    assert len(parse_argument(longest).encode()) == limits.VALUE_BYTES_MAX
    for too_long in (longest + "x", "1" * (limits.VALUE_BYTES_MAX + 1), f"[{'1,' * limits.VALUE_BYTES_MAX}1]"):
        with pytest.raises(OverLimit, match="the value"):
            parse_argument(too_long)
    with pytest.raises(OverLimit, match="key: line 1, column 2"):
        check_json("[" + "1" * (limits.VALUE_BYTES_MAX + 1), "key")
    with pytest.raises(OverLimit, match="key"):
        from_python(1 << (8 * limits.VALUE_BYTES_MAX), "key")


def test_a_shared_list_does_not_expand_without_end() -> None:
    """Sixty levels of a list that holds the same list twice are refused as soon as they are too long."""
    shared: list[Any] = []
    for _ in range(60):
        shared = [shared, shared]
    with pytest.raises(OverLimit, match="longer than 65536 bytes"):
        from_python(shared, "key")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (float("nan"), r"key: nan is not a number that JSON has"),
        ([float("inf")], r"key\[0\]: inf is not a number"),
        (decimal.Decimal("1.10"), r"the number 1\.10 would come back as 1\.1"),
        (decimal.Decimal("NaN"), r"NaN is not a number"),
        ({"at": dt.date(2024, 1, 2)}, r"key\.at: a value of type date cannot be kept"),
        (dt.datetime(2024, 1, 2, tzinfo=dt.UTC), r"type datetime"),
        (b"x", r"type bytes"),
        ({1}, r"type set"),
        ((1,), r"type tuple"),
        ({1: 2}, r"key: the member name 1 is not a string"),
        ({"a": {None: 2}}, r"key\.a: the member name None is not a string"),
        ("\ud800", r"unpaired surrogate"),
        ({"\x1b[2J": set()}, r"key\.\\x1b\[2J: a value"),
    ],
)
def test_python_values_that_json_cannot_hold_are_refused_by_name(value: Any, why: str) -> None:
    """The message has the path to the value, and nothing in it can drive a terminal."""
    with pytest.raises(InvalidValue, match=why):
        from_python(value, "key")


def test_a_decimal_is_taken_where_it_prints_as_json_does() -> None:
    """A program may have its numbers as decimals."""
    assert from_python(decimal.Decimal("1.5"), "key") == "1.5"


@pytest.mark.parametrize(
    ("text", "shown"),
    [('"a\\n\\"b\\" é"', 'a\n"b" é'), ("1.5", "1.5"), ("null", "null"), ('["a"]', '["a"]'), ('""', "")],
)
def test_showing_takes_the_quotes_off_strings_alone(text: str, shown: str) -> None:
    """Scripts get a string's characters, and JSON for anything else."""
    assert show(text) == shown


@pytest.mark.parametrize("key", ["a", "smtp.banner", "x=y", "a:b/c", "my key.b", "größe", "-x", "1.2.3", "क्\u200dष"])
def test_keys_are_dotted_parts(key: str) -> None:
    """Blanks inside, signs and letters of any script are fine."""
    assert check_key(key) == key


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", "a key is empty"),
        (".", "empty part"),
        ("a..b", "'a..b' has an empty part"),
        (".a", "empty part"),
        ("a.", "empty part"),
        (" a", "begins or ends with a blank"),
        ("a. b", "begins or ends with a blank"),
        ("a\u00a0.b", "begins or ends with a blank"),
        ("a\tb", r"'a\\tb' has an invisible character, U\+0009, at 2"),
        ("a\x00", r"U\+0000"),
        ("a\x85b", r"U\+0085"),
        ("a\u2028b", r"U\+2028"),
        ("pass\u00adword", r"U\+00AD"),
        ("a\u202eb", r"U\+202E"),
        ("\ufeffa", r"U\+FEFF"),
        ("a\ud800", r"U\+D800"),
        ("cafe\u0301", r"'cafe\\u0301' is not in Unicode's usual form \(NFC\), 'caf\\xe9'"),
    ],
)
def test_keys_that_could_not_be_told_apart_are_refused(key: str, why: str) -> None:
    """The message escapes what cannot be seen."""
    with pytest.raises(InvalidValue, match=why):
        check_key(key)


def test_the_longest_key_under_the_longest_group_name_fits_a_path() -> None:
    """A key's bound and a name's bound leave room for each other."""
    key = "k" * KEY_BYTES_MAX
    assert check_key(key) == key
    with pytest.raises(OverLimit, match="takes 513 bytes in a path"):
        check_key(key + "k")
    with pytest.raises(OverLimit, match="takes 516 bytes"):
        check_key("é" * 86)
    for sign in ("n", "é", "語", "ß", "ΐ", "ᾷ"):
        name = max((sign * count for count in range(1, 254) if is_name(sign * count)), key=len)
        level = group_level(group_id(name, [group_id(name, [])]))
        assert valid_path(setting_path(level, key))


def is_name(text: str) -> bool:
    """Say whether a text can be a group's name."""
    try:
        check_name(text, "group name")
    except Refused:
        return False
    return True


@pytest.mark.parametrize("name", ["Main_Group", "mx-1.example.org", "Büro Süd", "a" * 253, "#1", "...", "日本"])
def test_names_are_what_people_call_things(name: str) -> None:
    """Names of hosts, and names with blanks inside."""
    assert check_name(name, "group name") == name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "a group name is empty"),
        (" a", "begins or ends with a blank"),
        ("a\u3000", "begins or ends with a blank"),
        ("a/b", "the group name 'a/b' holds /"),
        ("a:b", "holds :"),
        ("Paris~2", "holds ~"),
        ("-a", "would be taken for something else"),
        ("..", "would be taken for something else"),
        ("a\nb", r"U\+000A"),
        ("u\u0308", r"NFC"),
        ("a" * 254, "has 254 characters"),
        ("語" * 60, "540 bytes in a path"),
    ],
)
def test_names_that_would_be_read_as_something_else_are_refused(name: str, why: str) -> None:
    """The message says of what it is the name."""
    with pytest.raises(Refused, match=why):
        check_name(name, "group name")


@given(texts)
def test_path_parts_come_back(text: str) -> None:
    """Quoting loses nothing, so two texts never share a path."""
    assert unquote_part(quote_part(text)) == text


@given(st.one_of(texts, st.text(st.sampled_from("a/%2Ff~é #"))))
def test_path_parts_are_quoted_as_uris_are(text: str) -> None:
    """The standard library's quoting, told the same safe characters, is the naive twin."""
    assert quote_part(text) == quote(text, safe="!$&'()*+,;=:@")
    assert not set(quote_part(text)) - set(string.ascii_letters + string.digits + "-._~!$&'()*+,;=:@%")


@given(st.text(st.sampled_from("a~%0123456789ABCDEFabcdef/é")))
def test_a_text_has_one_quoted_form(part: str) -> None:
    """Whatever can be unquoted is exactly what quoting writes."""
    try:
        text = unquote_part(part)
    except InvalidValue:
        return
    assert quote_part(text) == part


@pytest.mark.parametrize("part", ["%", "%2", "%2f", "%41", "a/b", "é", "%C3", "%ED%A0%80", "a b", "%GG"])
def test_parts_that_quoting_would_not_write_are_refused(part: str) -> None:
    """A needless, halved or lower-case escape would give one register two paths."""
    with pytest.raises(InvalidValue, match="path part"):
        unquote_part(part)


def test_half_a_character_has_no_path() -> None:
    """UTF-8 cannot encode an unpaired surrogate."""
    with pytest.raises(InvalidValue, match="unpaired surrogate"):
        quote_part("a\ud800")
