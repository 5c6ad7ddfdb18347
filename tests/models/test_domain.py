"""Domains: the shipped ones, one's own, and what is wrong with a bad one."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.contract import Behaviour
from models.domain import Domain, DomainError, domain_names, load_domain


def test_ecommerce_predicts_clicks_and_purchases_weakest_first() -> None:
    domain = load_domain("ecommerce")
    assert domain.types == ("click", "favourite", "cart", "purchase", "review")
    assert [b.name for b in domain.behaviours if b.target] == ["click", "purchase"]
    assert {b.name: b.value for b in domain.behaviours if b.value} == {"purchase": "amount", "review": "rating"}
    assert domain.exposure == "exposure"


@pytest.mark.parametrize("name", domain_names())
def test_a_shipped_domain_is_named_as_its_file_and_survives_json(name: str) -> None:
    domain = load_domain(name)
    assert domain.name == name
    assert Domain.from_json(domain.to_json()) == domain


def test_a_domain_of_ones_own_is_read_from_its_path(tmp_path: Path) -> None:
    path = tmp_path / "news.toml"
    path.write_text('name = "news"\n[[behaviours]]\nname = "read"\ntarget = true\nweight = 1\n', encoding="utf-8")
    assert load_domain(path) == Domain("news", (Behaviour("read", True, None, 1.0),))


GOOD = '[[behaviours]]\nname = "read"\ntarget = true\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD, "has no name"),
        ('name = "x"', "has no behaviours"),
        ('name = "x"\ncolour = 1\n' + GOOD, "key 'colour'"),
        ('name = "x"\nexposure = 3\n' + GOOD, "exposure = 3"),
        ('name = "x"\n[[behaviours]]\nname = "read"', "predicts nothing"),
        ('name = "x"\n[[behaviours]]\ntarget = true', "without a name"),
        ('name = "x"\n' + GOOD + GOOD, "'read' twice"),
        ('name = "x"\nexposure = "read"\n' + GOOD, "'read' twice"),
        ('name = "x"\n' + GOOD + 'value = "read"', "'read' twice"),
        ('name = "x"\n' + GOOD + "weight = true", "weight = True"),
        ('name = "x"\n' + GOOD + "weight = -1", "number from 0 up"),
        ('name = "x"\n' + GOOD + "weight = inf", "number from 0 up"),
        ('name = "x"\n' + GOOD + "speed = 1", "key 'speed'"),
        ("name = ", "cannot be read as TOML"),
    ],
)
def test_a_bad_domain_is_refused_in_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DomainError, match=says) as caught:
        load_domain(path)
    assert "\n" not in str(caught.value)


def test_an_unknown_domain_is_answered_with_the_shipped_ones() -> None:
    with pytest.raises(DomainError, match="shipped are ecommerce, ratings"):
        load_domain("nonsense")
