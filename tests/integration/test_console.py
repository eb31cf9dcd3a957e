"""The console as people use it, in a real Chromium without internet: answers, settings, errors, charts, keys.

Every test leaves two laws to the fixture: nothing was asked of another machine, and no script failed.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from cluster.keys import hash_key, new_key
from tests.integration.conftest import RunningCluster
from tests.integration.console_page import Page, chromium, in_a_thread

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROMPT = "Translate German to English: Wo ist der Bahnhof?"
LONG = "Translate German to English: " + "Meine Schwester kocht Reis und wir essen Brot mit Butter. " * 12
EXAMPLES = {
    "de": "Der Zug nach Berlin kommt um acht.",
    "fr": "Le train pour Paris part à midi.",
    "ru": "Поезд в Москву приходит в восемь.",
    "ja": "東京行きの電車は八時に来ます。",
    "zh": "去北京的火车八点到。",
}
BOTH = ("drafted", "plain")


@pytest.fixture(scope="module")
def tab(running_cluster: RunningCluster) -> Iterator[Page]:
    executable, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if executable is None or driver is None:
        pytest.skip("Chromium is not installed (`apt-get install chromium chromium-driver`)")
    with chromium(executable, driver) as browser:
        yield Page(browser, running_cluster.http)


@pytest.fixture
def page(tab: Page) -> Iterator[Page]:
    tab.open()
    yield tab
    tab.offline(False)
    tab.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    tab.listen()
    assert {urlunsplit((*urlsplit(url)[:2], "", "", "")) for url in tab.requested} == {tab.url}
    assert tab.complaints == []


@pytest.mark.parametrize("language", EXAMPLES)
@in_a_thread
def test_each_language_is_drafted_by_its_own_and_reads_the_same_without(page: Page, language: str) -> None:
    page.choose("example", EXAMPLES[language])
    assert EXAMPLES[language] in str(page["prompt"].get_attribute("value"))

    page.ask()

    assert page.answer("drafted") == page.answer("plain") != ""
    assert set(page.writers("drafted")) == {"drafter", "target"} and set(page.writers("plain")) == {"target"}
    assert page.figure("drafted", "language, drafter") == f"{language}, {language}"
    assert page.figure("plain", "language, drafter") == f"{language}, off"
    assert float(page.figure("drafted", "tokens a round")) > float(page.figure("plain", "tokens a round")) == 1.0
    for side, name in zip(BOTH, ("Tokens, With drafts", "Tokens, Without drafts"), strict=True):
        rows = page.table(name)
        assert len(rows) == int(page.figure(side, "tokens")) == len(page.writers(side))
        assert "".join(text for _, text, _ in rows) == page.answer(side)


async def test_the_answer_is_that_of_a_client(running_cluster: RunningCluster, tab: Page) -> None:
    async with running_cluster.client() as client:
        expected = await client.generate(PROMPT, temperature=1.0, seed=11, max_tokens=24)

    @in_a_thread
    def read() -> None:
        tab.open()
        tab.type("prompt", PROMPT)
        tab.type("temperature", "1")
        tab.type("seed", "11")
        tab.type("max_tokens", "24")
        tab.ask()
        assert tab.answer("drafted") == expected.text

    await read()


@in_a_thread
def test_a_seed_is_drawn_and_told_and_gives_the_same_text_again(page: Page) -> None:
    page.type("prompt", PROMPT)
    page.type("temperature", "2")
    page.ask()
    first = page.answer("drafted")
    (seed,) = re.findall(r"seed (\d+)", page["verdict"].text)

    page.ask()
    assert page["verdict"].text != f"The texts are identical (seed {seed})."

    page.type("seed", seed)
    page.ask()
    assert page.answer("drafted") == first and seed in page["verdict"].text


@in_a_thread
def test_both_answers_may_come_at_the_same_time(page: Page) -> None:
    page.type("prompt", PROMPT)
    page["together"].click()
    page.ask()
    assert page.answer("drafted") == page.answer("plain") != ""


@in_a_thread
def test_the_drafter_and_the_language_can_be_chosen(page: Page) -> None:
    page.choose("example", EXAMPLES["de"])
    page.choose("language", "fr")
    page.choose("drafter", "ngram")
    page.ask()
    assert page.figure("drafted", "language, drafter") == "fr, ngram"

    page.choose("drafter", "off")
    page.ask()
    assert page.writers("drafted") == page.writers("plain") and page.figure("drafted", "acceptance") == "–"


@in_a_thread
def test_everything_can_be_done_by_the_keyboard(page: Page) -> None:
    page.press(Keys.TAB)
    assert page.browser.switch_to.active_element.text == "Skip to the prompt"
    page.press(Keys.ENTER)
    page.tab_to("prompt")
    page.press(PROMPT)
    page.press_with_control(Keys.ENTER)
    page.wait(lambda: "identical" in page["verdict"].text, "answers after Ctrl+Enter")

    page.tab_to("seed")
    page.press("7")
    page.tab_to("together")
    page.press(Keys.SPACE)
    assert page["together"].is_selected()
    page.tab_to("send")
    page.press(Keys.ENTER)
    page.wait(lambda: "seed 7" in page["verdict"].text, "answers after Enter")
    assert page.focused == "send", "the focus came back from the button that stops"

    summary = page["drafted"].find_element(By.TAG_NAME, "summary")
    while page.browser.switch_to.active_element != summary:
        page.press(Keys.TAB)
    page.press(Keys.ENTER)
    assert page.table("Tokens, With drafts") and page.all("[aria-label='Tokens, With drafts']")[0].is_displayed()
    page.tab_to("pause")
    page.press(Keys.SPACE)
    assert page["pause"].get_attribute("aria-pressed") == "true"


@in_a_thread
def test_axe_finds_nothing_before_and_after_an_answer_in_light_and_dark(page: Page) -> None:
    assert page.accessibility_problems() == []
    page.choose("example", EXAMPLES["de"])
    page.ask()
    page["who"].click()
    for details in page.all("details"):
        page.browser.execute_script("arguments[0].open = true", details)
    for theme in ("light", "dark"):
        page.choose("theme", theme)
        assert page.accessibility_problems() == []


@in_a_thread
def test_what_happens_is_told_to_those_who_do_not_see_it(page: Page) -> None:
    page.type("prompt", PROMPT)
    page.ask()
    page.wait(lambda: "identical" in page["announcer"].text, "an announcement")
    assert page.answer("drafted") in page["announcer"].text
    assert re.search(r"With drafts: \d+ tokens, \d+ of them drafted", page["announcer"].text)
    controls = [one for one in page.all("input, select, textarea, button, summary") if one.is_displayed()]
    assert len(controls) > 10 and [one for one in controls if not one.accessible_name] == []
    assert [one.tag_name for one in page.all("h1, h2, h3")] == ["h1", "h2", "h2", "h3", "h3", "h2"]


@in_a_thread
def test_writers_are_told_apart_without_colours(page: Page) -> None:
    page.choose("example", EXAMPLES["de"])
    page.ask()
    styles = {
        writer: page.all(f"#drafted .{writer}")[0].value_of_css_property("text-decoration-style")
        for writer in ("drafter", "target")
    }
    assert styles == {"drafter": "solid", "target": "dotted"}
    assert page.all("#drafted .drafter")[0].get_attribute("title") == "drafter, accepted"


@in_a_thread
def test_colours_follow_the_system_or_the_choice_which_is_remembered(page: Page) -> None:
    def ground() -> str:
        return page.all("body")[0].value_of_css_property("background-color")

    grounds = set()
    for system in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": system}]
        page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        grounds.add(ground())
    assert len(grounds) == 2
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})

    page.choose("theme", "dark")
    dark = ground()
    page.choose("theme", "light")
    assert {dark, ground()} == grounds
    page.choose("theme", "dark")
    page.browser.refresh()
    assert ground() == dark


@pytest.mark.parametrize("width", [320, 600])
@in_a_thread
def test_a_narrow_screen_needs_no_scrolling_to_the_side(page: Page, width: int) -> None:
    page.width(width)
    page.choose("example", EXAMPLES["de"])
    page.ask()
    needed = page.browser.execute_script("return document.documentElement.scrollWidth")
    assert needed <= width
    assert page["send"].rect["width"] > 0 and page.all("#plain .token")[0].is_displayed()


@in_a_thread
def test_the_form_is_kept_in_this_tab_and_nowhere_else(page: Page) -> None:
    page["who"].click()
    page.type("prompt", PROMPT)
    page.type("seed", "5")
    page.choose("drafter", "ngram")
    page.type("operator_key", "pd_secret")
    page.browser.refresh()
    page.wait(lambda: page["drafter"].get_attribute("value") == "ngram", "what was chosen")
    assert (page["prompt"].get_attribute("value"), page["seed"].get_attribute("value")) == (PROMPT, "5")
    assert page["operator_key"].get_attribute("value") == "pd_secret"
    assert page["operator_key"].get_attribute("type") == "password"

    assert page.browser.current_url == f"{page.url}/console"
    kept = page.browser.execute_script("return JSON.stringify(localStorage) + document.cookie")
    assert "secret" not in kept
    first = page.browser.current_window_handle
    page.browser.switch_to.new_window("tab")
    page.browser.get(f"{page.url}/console")
    assert page["prompt"].get_attribute("value") == page["operator_key"].get_attribute("value") == ""
    page.browser.close()
    page.browser.switch_to.window(first)


@in_a_thread
def test_an_answer_can_be_stopped_and_asked_for_again(page: Page) -> None:
    page.type("prompt", LONG)
    page.type("max_tokens", "400")
    page["send"].click()
    page.wait(lambda: page.writers("drafted"), "the first token")
    page["stop"].click()
    page.wait(page.is_idle, "the end")
    assert page["drafted"].get_attribute("data-state") == "broken"
    assert page["verdict"].text == "" and page["problem"].text == ""

    page.type("prompt", PROMPT)
    page.ask()
    assert page["drafted"].get_attribute("data-state") == "whole"


@in_a_thread
def test_what_is_refused_says_why_and_loses_nothing(page: Page) -> None:
    page["send"].click()
    assert page.browser.switch_to.active_element.get_attribute("id") == "prompt", "an empty prompt is not sent"

    page.type("prompt", PROMPT)
    page.type("max_tokens", "1000000")
    page["send"].click()
    page.wait(lambda: "max_tokens" in page["problem"].text, "the reason")
    assert page["problem"].text.startswith("Refused (400)") and page["problem"].get_attribute("role") == "alert"
    assert page["prompt"].get_attribute("value") == PROMPT

    page.type("max_tokens", "16")
    page.ask()
    assert page["problem"].text == ""


@in_a_thread
def test_a_cluster_that_cannot_be_reached_is_told_and_asked_again(page: Page) -> None:
    page.type("prompt", PROMPT)
    page.offline(True)
    page["send"].click()
    page.wait(lambda: "does not answer" in page["problem"].text, "the problem")
    page.wait(lambda: "does not answer" in page["cluster-state"].text, "the charts' problem")

    page.offline(False)
    page.ask()
    page.wait(lambda: "No figures" not in page["cluster-state"].text, "figures again")


@in_a_thread
def test_texts_never_become_html(page: Page) -> None:
    refused = page.browser.execute_script(
        "try { document.body.insertAdjacentHTML('beforeend', '<b id=bad>'); return '' } catch (e) { return e.name }"
    )
    assert refused == "TypeError" and not page.all("#bad")
    page.listen()
    expected = [one for one in page.complaints if "TrustedHTML" in one]
    assert expected
    page.complaints = [one for one in page.complaints if one not in expected]


@in_a_thread
def test_a_tenant_needs_its_key_and_sees_its_own_figures(page: Page, running_cluster: RunningCluster) -> None:
    key = new_key()
    running_cluster.tenants_file.write_text(
        f"acme: {{keys: ['{hash_key(key)}'], requests_per_s: 0.2, drafters: [de]}}\n"
    )
    try:
        page["who"].click()
        page.type("prompt", PROMPT)
        page.type("tenant", "acme")
        page.type("key", "pd_wrong" + Keys.TAB)
        page.wait(lambda: "wrong key" in page["problem"].text, "the refusal")
        page["who"].find_element(By.TAG_NAME, "summary").click()
        page["send"].click()
        page.wait(lambda: page["who"].get_attribute("open"), "the place for keys")

        page.type("key", key + Keys.TAB)
        page.wait(lambda: page["drafter"].text.split() == ["auto", "off", "de"], "what acme may choose")
        page.wait(lambda: page["problem"].text == "", "the end of the problem")
        page["send"].click()
        page.wait(lambda: "A limit is reached" in page["problem"].text, "acme's limit at the second of two answers")
        assert "Try again in" in page["problem"].text and page.answer("drafted")

        page.wait(lambda: [row[0] for row in page.table("Tenants")] == ["acme"], "its own figures alone")
        assert "your own figures" in page["cluster-state"].text and not page["everything"].is_displayed()
        page.wait(lambda: "acme" in page.chart("Tokens a second by tenant"), "its line")
    finally:
        running_cluster.tenants_file.write_text("{}\n")


@in_a_thread
def test_an_operator_sees_tiers_replicas_languages_and_tenants(page: Page, running_cluster: RunningCluster) -> None:
    page.wait(lambda: "your own figures" in page["cluster-state"].text, "figures of the default tenant")
    page["who"].click()
    page.type("operator_key", running_cluster.operator_key + Keys.TAB)
    page.choose("example", EXAMPLES["ja"])
    page.ask()
    page.wait(lambda: page["everything"].is_displayed(), "everything")
    page.wait(lambda: re.search(r"\d+ tokens/s, .* open streams", page["cluster-state"].text), "the sum")
    page.wait(lambda: re.search(r"\bja [0-9.]+", page.chart("Tokens a second by language")), "a line of Japanese")
    page.wait(lambda: "default" in page.chart("Tokens a second by tenant"), "a line of the tenant")

    tiers = {row[0]: row for row in page.table("Tiers")}
    assert tiers["target"][1] == "2" and {"router", "drafter-de", "drafter-ja"} <= tiers.keys()
    assert sum(row[1] == "target" for row in page.table("Replicas")) == 2
    assert "target 2" in page.chart("Replicas by tier")
    assert "ja" in [row[0] for row in page.table("Languages")]


@in_a_thread
def test_charts_pause_and_go_on(page: Page) -> None:
    def num_asked() -> int:
        page.listen()
        return sum(url.endswith("/console/figures") for url in page.requested)

    page.wait(lambda: page.chart("Tokens a second by tenant"), "charts")
    page["pause"].click()
    page.wait(lambda: page["cluster-state"].text == "Paused.", "the pause")
    time.sleep(2.5)  # one question may be under way
    paused = num_asked()
    time.sleep(2.5)
    assert num_asked() == paused
    page["pause"].click()
    page.wait(lambda: num_asked() > paused, "a question for figures")
