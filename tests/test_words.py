"""Words of the command line and of configs: counts, shares and pairs as people write them."""

from __future__ import annotations

import pytest

from mixjax.cli import words


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("7e9", 7e9),
        ("7B", 7e9),
        ("7b", 7e9),
        ("1.5T", 1.5e12),
        ("300M", 3e8),
        ("10k", 1e4),
        ("7,000,000,000", 7e9),
        ("1,234.5", 1234.5),
        (" 7e9 ", 7e9),
    ],
)
def test_counts(word, value):
    assert words.count(word) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("word", ["", "B", "7Q", "-7B", "0", "nan", "inf", "7,00", "70,0000"])
def test_words_that_are_no_counts(word):
    with pytest.raises(ValueError, match="is not a positive number"):
        words.count(word)


def test_shares_are_numbers_or_percents():
    assert words.share("0.1") == words.share("10%") == pytest.approx(0.1)
    for word in ("ten", "%", "1/3"):
        with pytest.raises(ValueError, match="is not a number"):
            words.share(word)


def test_pairs_may_hold_commas_within_numbers():
    read = words.pairs(words.count)
    assert read("web=600B,wiki=4,000,000,000,code=1e9") == {"web": 6e11, "wiki": 4e9, "code": 1e9}
    assert read("web=600,code=1,200") == {"web": 600, "code": 1200}
    with pytest.raises(ValueError, match="'web=' is not NAME=NUMBER"):
        read("web=")
    with pytest.raises(ValueError, match="'web' is given twice"):
        read("web=1,web=2")


def test_numbers_for_all_or_for_each():
    assert words.number_or_pairs("4") == 4
    assert words.number_or_pairs("web=2,code=1") == {"web": 2, "code": 1}


def test_columns_may_be_numbers_where_a_table_has_one_scale():
    assert words.columns("h=weight_{},N=params_M*1e6,D=2e10") == {
        "h": "weight_{}",
        "N": "params_M*1e6",
        "D": 2e10,
    }
