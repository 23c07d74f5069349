"""Hypothesis strategies for what operators give the store: values, keys, names and whole sets of settings."""

from __future__ import annotations

from hypothesis import strategies as st

from cluster_store.core.errors import Refused
from cluster_store.core.values import check_key, from_python

#: Text of every character that UTF-8 has, control characters among them.
texts = st.text(st.characters(codec="utf-8"))
#: The characters that formats stumble over.
awkward_texts = st.text(
    st.sampled_from("ab.:=#-?&*!|>'\"%@`,[]{}\\ \t\r\v\f\n\x00\x7f\x85\xa0\u2028\ufeff\uffffé😀019e+")
)
numbers = st.one_of(
    st.integers(),
    st.integers(min_value=-(10**40), max_value=10**40),
    st.floats(allow_nan=False, allow_infinity=False),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts, awkward_texts)
json_values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(texts, awkward_texts), inner, max_size=4)
    ),
    max_leaves=12,
)


def is_key(text: str) -> bool:
    """Say whether a text can be a key."""
    try:
        check_key(text)
    except Refused:
        return False
    return True


#: Few different parts, so that keys often begin alike or with one another.
_related_keys = st.lists(st.sampled_from(["a", "b", "a-b", "no", "1.5", "é"]), min_size=1, max_size=4).map(".".join)
_visible = st.characters(codec="utf-8", exclude_categories=["C", "Z"])
_any_keys = st.text(st.one_of(_visible, st.sampled_from(". =:/#-'\"{}[]&*!%@1e+")), min_size=1)
keys = st.one_of(texts, awkward_texts).map(str.strip).filter(is_key)
keys = st.one_of(_related_keys, _any_keys.filter(is_key))
#: Settings that every format with nesting can hold: an object's members would be settings of their own.
settings = st.dictionaries(
    keys,
    json_values.filter(lambda value: not (isinstance(value, dict) and value)).map(
        lambda value: from_python(value, "drawn")
    ),
    max_size=8,
)
