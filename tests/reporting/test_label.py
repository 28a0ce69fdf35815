import pytest

from cl_fisher.reporting.label import wrapped


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("ewc", "ewc"),
        ("ewc, a=1, b=2", "ewc, a=1,\nb=2"),
        ("ewc, strength=1", "ewc,\nstrength=1"),
        ("ewc, long_key=long_value", "ewc,\nlong_key=\nlong_value"),
        ("a_very_long_name_indeed", "a_very_lon\ng_name_ind\need"),
        ("a \N{MINUS SIGN} bcdefgh", "a\n\N{MINUS SIGN} bcdefgh"),
    ],
)
def test_a_label_is_broken_setting_by_setting_and_within_a_word_only_where_it_must(label, expected):
    assert wrapped(label, 10) == expected
