"""The console in a real Chromium, by what a person does at it."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ParamSpec

from axe_core_python.selenium import Axe
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

WAIT_S = 30.0
_P = ParamSpec("_P")


def in_a_thread(test: Callable[_P, None]) -> Callable[_P, Awaitable[None]]:
    """A browser is waited for without holding up the loop, which reads what the cluster prints."""

    @functools.wraps(test)
    async def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        await asyncio.to_thread(test, *args, **kwargs)

    return run


@contextmanager
def chromium(executable: str, driver: str) -> Iterator[webdriver.Chrome]:
    """Headless, and for which no other machine than this one has a name."""
    options = webdriver.ChromeOptions()
    options.binary_location = executable
    alone = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", alone):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        browser.set_window_size(1200, 1600)
        yield browser
    finally:
        browser.quit()


@dataclass(slots=True)
class Page:
    """One tab with the console open."""

    browser: webdriver.Chrome
    url: str
    requested: list[str] = field(default_factory=list)
    """URLs, since the tab was opened."""
    complaints: list[str] = field(default_factory=list)
    """Of the browser: scripts that failed, and what the content policy refused."""

    def open(self, path: str = "/console") -> None:
        """As in a tab of its own: nothing is remembered."""
        self.browser.get(f"{self.url}/console/icon.svg")
        self.browser.execute_script("sessionStorage.clear(); localStorage.clear()")
        self.browser.get(self.url + path)
        self.wait(lambda: self["drafter"].text.count("\n") > 2, "choices of the cluster")

    def __getitem__(self, name: str) -> WebElement:
        return self.browser.find_element(By.ID, name)

    def all(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def wait(self, until: Callable[[], Any], what: str) -> None:
        WebDriverWait(self.browser, WAIT_S, poll_frequency=0.1).until(lambda _: until(), f"waited for {what}")

    def choose(self, name: str, value: str) -> None:
        Select(self[name]).select_by_visible_text(value)

    def type(self, name: str, text: str) -> None:
        self[name].clear()
        self[name].send_keys(text)

    def press(self, *keys: str) -> None:
        """Whatever has the focus gets them."""
        webdriver.ActionChains(self.browser).send_keys(*keys).perform()

    def press_with_control(self, key: str) -> None:
        actions = webdriver.ActionChains(self.browser)
        actions.key_down(Keys.CONTROL).send_keys(key).key_up(Keys.CONTROL).perform()

    def tab_to(self, name: str) -> None:
        """By the keyboard alone."""
        for _ in range(60):
            if self.focused == name:
                return
            self.press(Keys.TAB)
        raise AssertionError(f"{name} cannot be reached by the tabulator")

    @property
    def focused(self) -> str:
        return str(self.browser.switch_to.active_element.get_attribute("id"))

    def ask(self) -> None:
        """And wait for both answers."""
        self["send"].click()
        self.wait(lambda: "identical" in self["verdict"].text, f"identical answers; it says: {self['problem'].text}")

    def is_idle(self) -> bool:
        return self["send"].is_enabled() and not self["stop"].is_enabled()

    def answer(self, side: str) -> str:
        return str(self[side].find_element(By.CSS_SELECTOR, ".answer").get_attribute("textContent"))

    def writers(self, side: str) -> list[str]:
        """Of the tokens, in order."""
        return [
            str(one.get_attribute("class")).split()[1] for one in self[side].find_elements(By.CSS_SELECTOR, ".token")
        ]

    def figure(self, side: str, name: str) -> str:
        return self[side].find_element(By.CSS_SELECTOR, f"[data-figure='{name}']").text

    def table(self, caption: str) -> list[list[str]]:
        """Rows, also of a table that is folded."""
        rows = self.all(f"[aria-label='{caption}'] tbody tr")
        return [[str(cell.get_attribute("textContent")) for cell in row.find_elements(By.XPATH, "*")] for row in rows]

    def chart(self, title: str) -> str:
        """What it tells those who do not see it."""
        labels = [str(one.get_attribute("aria-label")) for one in self.all("figure > svg")]
        (label,) = [label for label in labels if label.startswith(f"{title}:")]
        return label

    def accessibility_problems(self) -> list[str]:
        """What axe-core finds, of all rules that it has for WCAG 2.1 A and AA and for good practice."""
        found = Axe().run(self.browser)
        return [f"{one['id']}: {node['html']}" for one in found["violations"] for node in one["nodes"]]

    def width(self, pixels: int) -> None:
        """Of the visible part, which windows cannot make as narrow as telephones are."""
        metrics = {"width": pixels, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def offline(self, is_offline: bool) -> None:
        conditions = {"offline": is_offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.browser.execute_cdp_cmd("Network.emulateNetworkConditions", conditions)

    def listen(self) -> None:
        """Take what the browser has logged since the last time."""
        for entry in self.browser.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.requested.append(message["params"]["request"]["url"])
        for entry in self.browser.get_log("browser"):
            if entry["source"] != "network":  # statuses such as 401 are the page's to tell
                self.complaints.append(entry["message"])
