"""The page at /, in a real browser."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from optcluster.programs import provide_debian
from support.served_models import Server, serving

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, installed where it is missing: a test of the page is never left out."""
    if not shutil.which("chromium"):
        provide_debian({"chromium": "chromium"})
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield started
        started.close()


def test_a_prompt_is_typed_and_its_answer_streams_in(browser: Browser, server: Server):
    page = browser.new_page(viewport={"width": 900, "height": 640})
    faults: list[str] = []
    page.on("pageerror", lambda fault: faults.append(str(fault)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.goto(server.url)
    expect(page.locator("#model")).to_contain_text("tiny")
    prompt = "Hello, my dog <b>is</b> cute;"
    page.fill("#prompt", prompt)
    page.fill("#tokens", "40")
    page.fill("#temperature", "0")
    page.click("#go")
    expect(page.locator("#note")).to_contain_text(re.compile(r"\d+ tokens in .* s, the first after"), timeout=60_000)
    text = server.complete(prompt, max_tokens=40, top_p=0.95)["choices"][0]["text"]
    assert page.locator("#answer").text_content() == prompt + text
    expect(page.locator("#go")).to_be_enabled()
    assert [fault for fault in faults if "favicon" not in fault and "404" not in fault] == []
    if target := os.environ.get("OPT_SCREENSHOT"):
        page.screenshot(path=target)
    page.close()


def test_a_long_answer_can_be_stopped_and_errors_are_shown(browser: Browser, server: Server):
    page = browser.new_page()
    page.goto(server.url)
    page.fill("#tokens", "9999")
    page.click("#go")
    expect(page.locator("#note")).to_contain_text("max_tokens: found 9999", timeout=60_000)
    expect(page.locator("#note")).to_have_class("wrong")
    page.fill("#tokens", "240")
    page.route("**/v1/completions", lambda route: route.continue_(post_data=_endless(route.request.post_data or "")))
    page.click("#go")
    page.click("#stop")
    expect(page.locator("#note")).to_contain_text("Stopped.")
    page.close()


def _endless(body: str) -> str:
    return body.replace('"stream":true', '"stream":true,"ignore_eos":true,"n":20')


def test_a_key_is_asked_for(browser: Browser, folder: Path, tmp_path: Path):
    keys = tmp_path / "keys"
    keys.write_text("secret\n")
    with serving(folder, tmp_path / "log", "--api-keys", str(keys), "--model-name", "guarded") as server:
        page = browser.new_page()
        page.goto(server.url)
        expect(page.locator("#model")).to_contain_text("no valid API key")
        page.fill("#key", "secret")
        page.locator("#key").blur()
        expect(page.locator("#model")).to_contain_text("guarded")
        page.close()
