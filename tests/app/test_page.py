"""The pages: they are there, they are ours alone, they ask nothing of any other host, and nothing else gets out."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from importlib.resources import files
from pathlib import Path

import pytest

from tests.app.conftest import House

ROOT = Path(__file__).parents[2]
STATIC = files("app") / "static"
OURS = sorted(file.name for file in STATIC.iterdir())
#: What a file may name without loading it: the SVG namespace.
NAMES = {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize(("path", "title"), [("/", "what will this user do next?"), ("/docs", "the API")])
async def test_a_page_is_html_that_may_load_nothing_from_elsewhere(house: House, path: str, title: str) -> None:
    response = await house.client.get(path)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert f"<title>Foretell: {title}</title>" in response.text
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'self'; ")
    assert "frame-ancestors 'none'" in policy
    assert "script-src" not in policy  # so default-src holds: no inline script, none from elsewhere


async def test_the_page_that_shows_titles_may_not_even_have_inline_styles(house: House) -> None:
    assert "unsafe" not in (await house.client.get("/")).headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_everything_a_page_refers_to_is_there_with_its_type(house: House, path: str) -> None:
    types = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    links = re.findall(r'(?:src|href)="([^"]+)"', (await house.client.get(path)).text)
    assert len(links) >= 4
    for link in links:
        response = await house.client.get(f"/{link}")
        assert response.status_code == 200, link
        if link.startswith("static/"):
            kind = response.headers["content-type"].partition(";")[0]
            assert kind == types[link.rpartition(".")[2]], link
            assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", OURS)
def test_no_file_of_ours_names_another_host_or_makes_html_of_text(name: str) -> None:
    text = (STATIC / name).read_text(encoding="utf-8")
    assert set(re.findall(r"(?:https?:)?//[\w.-]+\.[\w./-]+", text)) <= NAMES
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b| style=| on\w+=", text)


async def test_a_browser_asks_again_and_is_told_that_nothing_changed(house: House) -> None:
    first = await house.client.get("/static/page.js")
    assert first.headers["cache-control"] == "no-cache"
    again = await house.client.get("/static/page.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/static/",
        "/static/nothing.js",
        "/static/..%2fmain.py",
        "/static/%2e%2e%2f%2e%2e%2fpyproject.toml",
        "/static/..%5cmain.py",
        "/static/%2fetc%2fpasswd",
        "/static/page.js%00",
        "/static/" + "x" * 5000,
        "/static/../main.py",
        "/redoc",
    ],
)
async def test_any_other_path_is_404_in_the_common_shape(house: House, path: str) -> None:
    response = await house.client.get(path)
    assert (response.status_code, response.json()["error"]) == (404, "not_found")


async def test_files_are_counted_under_one_label(house: House) -> None:
    await house.client.get("/static/page.js")
    await house.client.get("/static/page.css")
    labels = {"route": "/static/{name}", "method": "GET", "status": "200"}
    assert house.sample("foretell_http_requests_total", **labels) == 2


def test_the_wheel_holds_the_files(tmp_path: Path) -> None:
    build = "import sys, hatchling.build; print(hatchling.build.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    with zipfile.ZipFile(tmp_path / done.stdout.strip()) as wheel:
        packed = {name.removeprefix("app/static/") for name in wheel.namelist() if name.startswith("app/static/")}
    assert packed == set(OURS)
