"""Keys: what a file of them says, who is let in, and that a refusal tells nothing by its time."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from app.key_file import KeyFile
from app.keys import KeysError, judge, new_key, read_keys
from app.settings import Settings
from foretell.cli import app as cli
from models.artifact import Artifact
from tests.app.conftest import NOW, House, serving
from tests.app.fakes import FakeRuntime

#: One of each kind, made by hand: (text, scopes, expires); 2026-01-31T12:00:00Z is now.
KEYS = {
    "shop": ("ftl_aaaa_one", '["predict"]', "null"),
    "feed": ("ftl_bbbb_two", '["ingest", "predict"]', '"2026-01-31T12:00:01Z"'),
    "late": ("ftl_cccc_three", '["predict", "ingest", "admin"]', '"2026-01-31T12:00:00Z"'),
    "root": ("ftl_dddd_four", '["admin"]', "null"),
}
SHOP, FEED, LATE, ROOT = (text for text, _, _ in KEYS.values())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("".join(_line(*key) for key in KEYS.values()))
    return path


def _line(text: str, scopes: str, expires: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f'{{"id": "{text[4:8]}", "sha256": "{digest}", "scopes": {scopes}, "expires": {expires}}}\n'


def _write(file: Path, text: str | None) -> None:
    """Write the file, or remove it."""
    if text is None:
        file.unlink()
    else:
        file.write_text(text)


def _replace(file: Path, old: str, new: str) -> None:
    """Put a file with another content in its place."""
    other = file.with_name("other")
    other.write_text(file.read_text().replace(old, new))
    other.rename(file)


@asynccontextmanager
async def keyed(artifact: Artifact, settings: Settings, file: Path, **changes: Any) -> AsyncIterator[House]:
    """The service over fakes, with keys."""
    house = House(FakeRuntime(artifact), settings.model_copy(update={"keys": file} | changes))
    async with serving(house):
        yield house


async def _predict(house: House, key: str | None, scheme: str = "Bearer") -> httpx.Response:
    headers = {} if key is None else {"Authorization": f"{scheme} {key}"}
    return await house.client.post("/predict", json={"user_id": "u"}, headers=headers)


async def test_a_key_with_the_scope_is_let_in_until_its_last_second(
    artifact: Artifact, settings: Settings, file: Path
) -> None:
    async with keyed(artifact, settings, file) as house:
        assert (await _predict(house, SHOP)).status_code == 200
        assert (await _predict(house, SHOP, "bearer")).status_code == 200
        assert (await _predict(house, FEED)).status_code == 200
        house.now += 1
        assert (await _predict(house, FEED)).json()["detail"].startswith("This key has expired")


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (None, "missing"),
        ("", "wrong"),
        ("ftl_eeee_one", "wrong"),
        ("ftl_aaaa_two", "wrong"),
        (SHOP + "x", "wrong"),
        (SHOP[:-1], "wrong"),
        ("x" * 10_000, "wrong"),
        ("ftl_aaaa_\xe9", "wrong"),
        (LATE, "expired"),
    ],
)
async def test_without_a_key_that_counts_the_answer_is_401_in_the_common_shape(
    artifact: Artifact, settings: Settings, file: Path, key: str | None, reason: str
) -> None:
    async with keyed(artifact, settings, file) as house:
        headers = [] if key is None else [(b"Authorization", b"Bearer " + key.encode("latin-1"))]
        response = await house.client.post("/predict", json={"user_id": "u"}, headers=headers)
        assert (response.status_code, response.json()["error"]) == (401, "unauthorized")
        assert response.headers["www-authenticate"] == 'Bearer realm="foretell"'
        assert house.sample("foretell_refused_total", reason=reason) == 1


async def test_another_scheme_than_bearer_is_no_key(artifact: Artifact, settings: Settings, file: Path) -> None:
    async with keyed(artifact, settings, file) as house:
        assert (await _predict(house, SHOP, "Basic")).status_code == 401


ROUTES = [
    ("POST", "/predict", "predict"),
    ("POST", "/predict/batch", "predict"),
    ("GET", "/models", "predict"),
    ("POST", "/events", "ingest"),
    ("PUT", "/users/u", "admin"),
    ("GET", "/users/u", "admin"),
    ("DELETE", "/users/u", "admin"),
    ("GET", "/metrics", "admin"),
]


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
async def test_each_route_wants_its_scope_and_no_other_will_do(
    artifact: Artifact, settings: Settings, file: Path, method: str, path: str, scope: str
) -> None:
    scopes = ("predict", "ingest", "admin")
    _write(file, "".join(_line(f"ftl_{name[:4]}_x", f'["{name}"]', "null") for name in scopes))
    async with keyed(artifact, settings, file) as house:
        for name in scopes:
            headers = {"Authorization": f"Bearer ftl_{name[:4]}_x", "Content-Type": "text/plain"}
            answer = await house.client.request(method, path, headers=headers)  # a body nobody takes: 415 past the door
            assert (answer.status_code == 403) == (name != scope), (name, answer.text)
            if name != scope:
                assert answer.json()["error"] == "forbidden"
                assert f"scope {scope}" in answer.json()["detail"]
                assert answer.headers["www-authenticate"].endswith('error="insufficient_scope"')


async def test_every_route_of_the_document_wants_a_key_but_the_probes(house: House) -> None:
    document = (await house.client.get("/openapi.json")).json()
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for path, methods in document["paths"].items():
        for operation in methods.values():
            wants = operation.get("security") == [{"key": []}]
            assert wants == (not path.startswith("/health/")), path
            assert wants == ({"401", "403", "429"} <= set(operation["responses"])), path


async def test_probes_and_pages_need_no_key(artifact: Artifact, settings: Settings, file: Path) -> None:
    async with keyed(artifact, settings, file) as house:
        for path in ("/health/live", "/health/ready", "/", "/docs", "/openapi.json"):
            assert (await house.client.get(path)).status_code == 200, path


async def test_a_refused_request_is_not_read(artifact: Artifact, settings: Settings, file: Path) -> None:
    reads: list[None] = []

    async def body() -> AsyncIterator[bytes]:
        reads.append(None)
        yield b"{}"

    async with keyed(artifact, settings, file) as house:
        headers = {"Content-Type": "application/json"}
        assert (await house.client.post("/events", content=body(), headers=headers)).status_code == 401
    assert reads == []


async def test_the_log_never_holds_a_key(
    artifact: Artifact, settings: Settings, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with keyed(artifact, settings, file) as house:
        with capture_logs() as logged:
            await _predict(house, SHOP)
            await _predict(house, "ftl_aaaa_wrong")
    assert logged
    assert "ftl_" not in str(logged)


def test_a_key_that_is_made_can_be_read_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    text, line = new_key(["ingest"], None, "5/second")
    assert len(text) == 56
    assert text not in line.model_dump_json()
    (tmp_path / "keys").write_text(line.model_dump_json() + "\n")
    keys = read_keys(tmp_path / "keys")
    assert judge(keys, text, "ingest", NOW).refusal is None
    assert judge(keys, text, "predict", NOW).refusal == "scope"
    assert str(keys[line.id].limit) == "5 per 1 second"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "line 1: body: "),
        ("\n" + _line("ftl_aaaa_x", '["fly"]', "null"), "line 2: scopes.0: "),
        (_line("ftl_aaaa_x", "[]", "null"), "line 1: scopes: "),
        (_line("ftl_aaaa_x", '["predict"]', '"2026-01-31T12:00:00"'), "line 1: expires: "),
        (_line("ftl_aaaa_x", '["predict"]', "null") * 2, "line 2: there is a key aaaa already"),
        (b"\xff".decode("latin-1"), "cannot be read (it is no UTF-8)"),
    ],
)
def test_a_file_that_is_wrong_is_refused_in_a_sentence(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "keys").write_bytes(content.encode("latin-1"))
    with pytest.raises(KeysError) as caught:
        read_keys(tmp_path / "keys")
    assert says in str(caught.value)
    assert "ftl_" not in str(caught.value)


def test_a_file_that_is_missing_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match="No such file or directory"):
        KeyFile(tmp_path / "none")


async def test_a_changed_file_counts_without_a_restart_and_a_broken_one_changes_nothing(file: Path) -> None:
    failures: list[None] = []
    keys = KeyFile(file, lambda: failures.append(None))
    _write(file, _line(*KEYS["root"]))
    await keys.look()
    assert set(keys.keys) == {"dddd"}
    _write(file, "{")
    await keys.look()
    _write(file, None)
    await keys.look()
    assert set(keys.keys) == {"dddd"}
    assert len(failures) == 2
    _write(file, "")
    await keys.look()
    assert keys.keys == {}


async def test_a_file_that_could_not_be_read_is_read_at_the_next_look(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without another change: what kept it from being read leaves no trace on the file."""
    keys = KeyFile(file)
    _write(file, _line(*KEYS["root"]))

    def busy(path: Path) -> NoReturn:
        raise KeysError("The keys cannot be read (Too many open files).") from OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr("app.key_file.read_keys", busy)
        await keys.look()
    assert len(keys.keys) == len(KEYS)
    await keys.look()
    assert set(keys.keys) == {"dddd"}


async def test_the_watch_notices_a_file_put_in_the_place_of_another(file: Path) -> None:
    """As a secret store does it: a link moves to another file, of the same size and, maybe, time."""
    seen = asyncio.Event()

    class Watched(KeyFile):
        async def look(self) -> None:
            await super().look()
            if "ffff" in self.keys:
                seen.set()

    async with Watched(file, seconds=0.001) as keys:
        _replace(file, '"aaaa"', '"ffff"')
        await seen.wait()
    assert "aaaa" not in keys.keys


async def test_no_error_ends_the_watch(file: Path) -> None:
    """A key that is withdrawn after one must not stay good until somebody restarts the service."""
    failed, looked = asyncio.Event(), asyncio.Event()

    class Watched(KeyFile):
        async def look(self) -> None:
            if not failed.is_set():
                raise MemoryError
            await super().look()
            looked.set()

    async with Watched(file, failed.set, seconds=0.001) as keys:
        await failed.wait()
        _write(file, "")
        looked.clear()
        await looked.wait()
    assert keys.keys == {}


def test_every_refusal_does_the_same_work(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One hash and one comparison of 32 bytes each, whatever is wrong."""
    keys, calls = read_keys(file), []

    def compare(one: bytes, other: bytes) -> bool:
        calls.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    for key in (None, "ftl_aaaa_wrong", "ftl_nobody_x", LATE, ROOT):
        judge(keys, key, "predict", NOW)
    assert calls == [(32, 32)] * 5


def test_refusals_take_the_same_time(file: Path) -> None:
    """Medians of interleaved rounds: a machine that is busy is busy for all of them. A comparison that stops at the
    first wrong key, or a slow hash for known ids alone, would show as a factor."""
    keys = read_keys(file)
    unknown, wrong = (f"ftl_{name}_" + "x" * 43 for name in ("eeee", "aaaa"))
    presented = {"missing": None, "unknown": unknown, "wrong": wrong, "late": LATE, "scope": ROOT}
    taken: dict[str, list[int]] = {name: [] for name in presented}
    for _ in range(4000):
        for name, key in presented.items():
            start = time.perf_counter_ns()
            judge(keys, key, "predict", NOW)
            taken[name].append(time.perf_counter_ns() - start)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    assert max(medians.values()) < 1.4 * min(medians.values()), medians


def _run(*arguments: str, file: Path) -> Any:
    return CliRunner().invoke(cli, ["keys", *arguments], env={"FORETELL_KEYS": str(file)})


def test_the_command_makes_lists_and_withdraws_keys(tmp_path: Path) -> None:
    file = tmp_path / "new" / "keys"
    made = _run("new", "--scope", "predict", "--expires", "90d", "--limit", "5/second", file=file)
    assert made.exit_code == 0, made.output
    key = made.stdout.strip()
    [known] = read_keys(file).values()
    assert judge({known.id: known}, key, "predict", time.time()).refusal is None
    assert 0 <= time.time() + 90 * 86400 - known.expires < 60
    assert file.stat().st_mode & 0o777 == 0o600
    assert key not in file.read_text()
    second = _run("new", "--scope", "admin", "--if-none", file=file)
    assert (second.exit_code, second.stdout) == (0, "")
    assert known.id in _run("list", file=file).output
    assert _run("revoke", known.id, file=file).exit_code == 0
    assert read_keys(file) == {}
    assert _run("revoke", known.id, file=file).exit_code == 2


@pytest.mark.parametrize("arguments", [("--expires", "soon"), ("--expires", "2020-01-01"), ("--limit", "many")])
def test_a_bad_option_makes_no_key(tmp_path: Path, arguments: tuple[str, str]) -> None:
    done = _run("new", "--scope", "predict", *arguments, file=tmp_path / "keys")
    assert done.exit_code == 2
    assert not (tmp_path / "keys").exists()


def test_a_last_line_without_its_end_is_not_torn_further(file: Path) -> None:
    file.write_text(file.read_text().rstrip("\n"))
    assert _run("new", "--scope", "predict", file=file).exit_code == 0
    assert len(read_keys(file)) == 5
