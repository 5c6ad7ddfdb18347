"""The pages in a real browser: Chromium without a network, over the real service, stores and shipped model."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pymongo
import pytest

from app.keys import new_key
from foretell.embedded import EmbeddedStores
from foretell.loading import load_dataset
from models.datasets.storefront import simulate
from tests.e2e.conftest import ROOT, SAVED

webdriver: Any = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium here (Debian: apt-get install chromium chromium-driver)"
)

DATABASE = "page"
#: The title of every item here: a page that made HTML of it would show a picture, and Chromium would complain.
TITLE = "<img src=x onerror=alert(1)>"
#: Quiet, in a sandbox of our own making (tests may run as root), and deaf to every host but this one.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--window-size=1280,900",
)
WAIT = 60


@contextmanager
def serving(stores: EmbeddedStores, **more: str) -> Iterator[str]:
    """``foretell serve`` over the stores and the shipped model, from the line that says it listens."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FORETELL_")}
    settings = {
        "FORETELL_PORT": "0",
        "FORETELL_XLA": "false",
        "FORETELL_MONGO_URL": stores.mongo_url,
        "FORETELL_REDIS_URL": stores.redis_url,
        "FORETELL_MONGO_DATABASE": DATABASE,
        "FORETELL_MODEL_ROOT": str(SAVED),
        "FORETELL_DEADLINE_MS": "60000",  # a busy machine must not fail a test
        "FORETELL_MONGO_TIMEOUT_MS": "20000",
        "FORETELL_REDIS_TIMEOUT_MS": "20000",
        **more,
    }
    command = [str(Path(sys.executable).with_name("foretell")), "serve"]
    process = subprocess.Popen(command, cwd=ROOT, env=clean | settings, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"running on (http://127\.0\.0\.1:\d+)", line):
                yield found[1]
                return
        raise AssertionError("the service did not start")
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture(scope="module")
def shopper(stores: EmbeddedStores) -> str:
    """A customer with a history, of a synthetic shop that is loaded."""
    shop = simulate(seed=5, users=20, items=5_000, events=2_000)
    load_dataset(shop, stores.mongo_url, DATABASE)
    with pymongo.MongoClient[dict[str, Any]](stores.mongo_url) as client:
        client[DATABASE]["items"].update_many({}, {"$set": {"title": TITLE}})
    counts = shop.events.group_by("user_id").len().sort("len", "user_id")
    user: str = counts.filter(counts["len"] >= 10).row(0)[0]
    return user


@pytest.fixture(scope="module")
def base(stores: EmbeddedStores, shopper: str) -> Iterator[str]:
    """The address of the service."""
    with serving(stores) as address:
        yield address


@pytest.fixture(scope="module")
def key_and_base(stores: EmbeddedStores, shopper: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A key that may predict, and the address of a service that wants one."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    key, line = new_key(["predict"])
    file.write_text(line.model_dump_json() + "\n")
    with serving(stores, FORETELL_KEYS=str(file)) as address:
        yield key, address


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """Chromium with a fresh profile. Whatever a test did, no page may have complained in its console."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    try:
        yield driver
        assert driver.get_log("browser") == []
    finally:
        driver.quit()


def until(browser: Any, holds: Callable[[], Any]) -> Any:
    """Wait until something holds (which may ask for elements that are being replaced); gives what it gave."""
    from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    ignored = (NoSuchElementException, StaleElementReferenceException)
    return WebDriverWait(browser, WAIT, 0.05, ignored).until(lambda _: holds())


def all_of(browser: Any, css: str) -> list[Any]:
    return list(browser.find_elements("css selector", css))


def one(browser: Any, css: str) -> Any:
    return browser.find_element("css selector", css)


def provenance(browser: Any) -> tuple[str, int]:
    """The state the page shows, and the length of the history."""
    shown = one(browser, "#provenance")
    return str(shown.get_attribute("data-state")), int(shown.get_attribute("data-history"))


def open_page(browser: Any, base: str, user: str) -> None:
    browser.get(f"{base}/?user={user}")
    until(browser, lambda: all_of(browser, "#items > li"))


def test_an_event_is_in_the_next_prediction(browser: Any, base: str, stores: EmbeddedStores, shopper: str) -> None:
    """Recommendations appear; asked again they come from the cache; after a click on a button the state is computed
    anew, the history is one longer, and the row that was acted on is marked and keeps the focus. The event that was
    stored says what was on the page."""
    open_page(browser, base, shopper)
    assert len(all_of(browser, "#items > li")) == 10
    assert "synthetic data" in one(browser, "#model").text
    before = provenance(browser)[1]
    assert before >= 10

    one(browser, "button.primary").click()
    until(browser, lambda: provenance(browser) == ("cached", before))

    shown = [row.get_attribute("data-item") for row in all_of(browser, "#items > li")]
    button = all_of(browser, "#items button")[0]
    key = button.get_attribute("data-key")
    button.click()
    until(browser, lambda: provenance(browser) == ("computed", before + 1))
    assert f"{before} → {before + 1} events" in one(browser, "#provenance").text
    assert "Stored: click" in one(browser, "#provenance").text
    if acted := all_of(browser, "#items > li.acted"):  # unless it left the best ten
        assert acted[0].get_attribute("data-item") == key.removeprefix("click ")
        assert browser.switch_to.active_element.get_attribute("data-key") == key
    with pymongo.MongoClient[dict[str, Any]](stores.mongo_url) as client:
        stored = client[DATABASE]["events"].find_one({"_id": {"$regex": "^page-"}})
    assert stored is not None
    assert stored["exposed"] == shown


def test_the_form_asks_what_it_shows(browser: Any, base: str, shopper: str) -> None:
    """How many, diversity and weights reach the request, which stands on the page as a command."""
    open_page(browser, base, shopper)
    count = one(browser, "[name=k]")
    count.clear()
    count.send_keys("3\n")
    until(browser, lambda: len(all_of(browser, "#items > li")) == 3)
    one(browser, "[name=diversity]").send_keys("\ue014")  # the right arrow key
    until(browser, lambda: '"diversity":0.05' in one(browser, "#curl").get_attribute("textContent"))
    one(browser, "[name='objective.purchase']").send_keys("\ue012")  # the left one
    until(
        browser,
        lambda: '"objective":{"click":0.1,"purchase":0.99}' in one(browser, "#curl").get_attribute("textContent"),
    )


def test_nobody_is_answered_and_cannot_act(browser: Any, base: str) -> None:
    """Without a user the page shows what is popular, and its buttons are off."""
    open_page(browser, base, "")
    assert provenance(browser) == ("anonymous", 0)
    assert not any(button.is_enabled() for button in all_of(browser, "#items button"))


def test_an_error_is_told_in_words(browser: Any, base: str, shopper: str) -> None:
    """What the service refuses is shown with its sentence and the field; the next good question clears it."""
    open_page(browser, base, shopper)
    count = one(browser, "[name=k]")
    count.clear()
    count.send_keys("9999\n")
    until(browser, lambda: one(browser, "#error").is_displayed())
    assert re.search(r"k: .*200", one(browser, "#error").text)
    refused = browser.get_log("browser")  # Chromium notes every answer that is no success
    assert len(refused) == 1
    assert "422" in refused[0]["message"]
    count.clear()
    count.send_keys("5\n")
    until(browser, lambda: not one(browser, "#error").is_displayed())
    assert len(all_of(browser, "#items > li")) == 5


def test_titles_and_users_are_text_never_html(browser: Any, base: str) -> None:
    """What looks like a tag is shown letter by letter, wherever it comes from."""
    open_page(browser, base, quote(TITLE))
    assert one(browser, "[name=user]").get_attribute("value") == TITLE
    assert TITLE in one(browser, "#curl").get_attribute("textContent")
    assert {name.text for name in all_of(browser, "#items .name")} == {TITLE}
    assert len(all_of(browser, "img")) == 1  # the mark


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_loads_from_this_service_alone(browser: Any, base: str, path: str) -> None:
    """Everything a page fetched came from the service: it works where there is no network."""
    browser.get(base + path)
    until(browser, lambda: all_of(browser, "#items > li, .opblock"))
    script = "return performance.getEntriesByType('resource').map(entry => entry.name)"
    loaded = browser.execute_script(script)
    assert len(loaded) >= 4
    assert all(url.startswith((f"{base}/", "data:")) for url in loaded), loaded


def test_the_api_page_shows_the_operations(browser: Any, base: str) -> None:
    browser.get(f"{base}/docs")
    until(browser, lambda: all_of(browser, ".opblock"))
    shown = {block.text for block in all_of(browser, ".opblock-summary-path")}
    assert {path.replace("\u200b", "") for path in shown} == {
        "/predict",
        "/predict/batch",
        "/events",
        "/users/{user_id}",
        "/models",
        "/metrics",
        "/health/live",
        "/health/ready",
    }


def test_a_service_that_wants_a_key_is_given_it_once_and_the_page_shows_no_key(
    browser: Any, key_and_base: tuple[str, str], shopper: str
) -> None:
    key, address = key_and_base
    browser.get(f"{address}/?user={shopper}")
    until(browser, lambda: one(browser, "#error").is_displayed())
    assert "Authorization: Bearer" in one(browser, "#error").text
    assert len(browser.get_log("browser")) == 1  # Chromium's own word about the 401
    field = one(browser, "#key")
    field.send_keys(key, "\n")
    until(browser, lambda: all_of(browser, "#items > li"))
    assert not one(browser, "#error").is_displayed()
    assert provenance(browser)[1] >= 10
    assert '-H "Authorization: Bearer $KEY"' in one(browser, "#curl").get_attribute("textContent")
    assert key not in one(browser, "body").get_attribute("textContent")
    assert key not in browser.current_url
