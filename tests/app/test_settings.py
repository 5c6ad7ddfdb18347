"""Settings: read from the environment, refused in sentences."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.settings import Settings, SettingsError, likely_typos, load_settings, settings_table


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No FORETELL_ variable of the developer's shell reaches a test."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"FORETELL_{name.upper()}", raising=False)


def test_defaults_need_no_environment() -> None:
    settings = load_settings()
    assert (settings.host, settings.port, settings.model_root) == ("127.0.0.1", 8000, Path("models/saved"))


def test_the_environment_wins_over_defaults_and_options_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORETELL_PORT", "9000")
    monkeypatch.setenv("FORETELL_HOST", "0.0.0.0")
    settings = load_settings(port=9001, host=None)
    assert (settings.port, settings.host) == (9001, "0.0.0.0")


def test_each_bad_setting_is_named_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORETELL_PORT", "many")
    monkeypatch.setenv("FORETELL_DEVICE", "tpu")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert len(caught.value.problems) == 2
    assert caught.value.problems[0].startswith("FORETELL_PORT cannot be used: ")
    assert "'many'" in caught.value.problems[0]
    assert caught.value.problems[1].startswith("FORETELL_DEVICE cannot be used: ")


def test_a_bad_url_is_not_repeated_for_it_may_hold_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORETELL_MONGO_URL", "user:secret@db")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "FORETELL_MONGO_URL" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_store_timeouts_that_eat_the_deadline_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """250 ms for Redis and 1000 ms for MongoDB leave nothing of 1250 ms."""
    monkeypatch.setenv("FORETELL_DEADLINE_MS", "1250")
    with pytest.raises(SettingsError, match="FORETELL_DEADLINE_MS cannot be used: it must be longer than"):
        load_settings()


def test_a_misspelt_variable_is_pointed_out_and_a_foreign_one_is_not() -> None:
    found = likely_typos({"FORETELL_PROT": "1", "FORETELL_PORT": "1", "FORETELL_BUILD_TAG": "x", "PATH": "/"})
    assert found == ["FORETELL_PROT is set, but no setting has this name; did you mean FORETELL_PORT?"]


def test_the_table_has_a_row_with_default_and_meaning_for_every_setting() -> None:
    rows = settings_table().splitlines()[2:]
    assert len(rows) == len(Settings.model_fields)
    assert "| `FORETELL_LOG_JSON` | `false` | Log JSON lines instead of text. |" in rows
    assert all(row.count("|") == 4 and row.split("|")[3].strip() for row in rows)


def test_a_secret_is_not_repeated_whether_it_is_good_or_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORETELL_PSEUDONYM_KEY", "tooshort")
    monkeypatch.setenv("FORETELL_LOG_SECRET", "longenough-longenough")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "FORETELL_PSEUDONYM_KEY cannot be used" in str(caught.value)
    assert "tooshort" not in str(caught.value)
    monkeypatch.delenv("FORETELL_PSEUDONYM_KEY")
    assert "longenough" not in repr(load_settings())


def test_a_certificate_without_its_key_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cert.pem").touch()
    with pytest.raises(SettingsError, match="FORETELL_TLS_CERT and FORETELL_TLS_KEY belong together"):
        load_settings(tls_cert=tmp_path / "cert.pem")


@pytest.mark.parametrize("rate", ["many", "5/fortnight", ""])
def test_a_rate_that_cannot_be_read_is_refused(monkeypatch: pytest.MonkeyPatch, rate: str) -> None:
    monkeypatch.setenv("FORETELL_KEY_LIMIT", rate)
    with pytest.raises(SettingsError, match="FORETELL_KEY_LIMIT cannot be used"):
        load_settings()
