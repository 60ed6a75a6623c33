"""The HTML reports in a real browser: sorted, switched to dark, narrowed, and silent on the network."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from baseline_searches import full_report
from pages import EVIL, full_comparison

pytest.importorskip("selenium", reason="Selenium drives the browser: pip install 'effgen[dev]'")
pytest.importorskip("plotly")

from browser import chromium, missing_program, show
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from effgen.report.front_folder import write_front
from effgen.report.html.page import page_from_comparison

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(missing_program() is not None, reason="needs chromium and chromedriver (apt-get install both)"),
]

CHARTS = ("phi", "machines", "front", "stacks", "roofline")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    path = folder / "report.html"
    path.write_text(page_from_comparison(full_comparison(folder), gate=5.0))
    return path


@pytest.fixture(scope="module")
def session() -> Iterator[Chrome]:
    with chromium() as made:
        yield made


@pytest.fixture
def browser(session: Chrome, page: Path) -> Iterator[Chrome]:
    """The page, opened anew in a wide window; no script may have failed by the end."""
    session.get_log("browser")
    show(session, page, 1200, 1000)
    yield session
    assert session.get_log("browser") == []
    assert session.execute_script("return window.owned") is None


def column(browser: Chrome, table: str, title: str) -> int:
    heads = browser.find_elements(By.CSS_SELECTOR, f"#{table} thead th")
    return next(index for index, head in enumerate(heads) if head.text.startswith(title))


def heading(browser: Chrome, table: str, title: str) -> Any:
    index = column(browser, table, title)
    return browser.find_element(By.CSS_SELECTOR, f"#{table} thead th:nth-child({index + 1})")


def values(browser: Chrome, table: str, title: str) -> list[str]:
    index = column(browser, table, title)
    return [
        row.find_elements(By.CSS_SELECTOR, "th, td")[index].get_attribute("textContent") or ""
        for row in browser.find_elements(By.CSS_SELECTOR, f"#{table} tbody tr")
    ]


def test_click_sorts_numbers_both_ways(browser: Chrome) -> None:
    before = values(browser, "rows", "median ms")
    assert before[0] == "50.000"  # the board comes first by name
    button = heading(browser, "rows", "median ms").find_element(By.TAG_NAME, "button")
    button.click()
    assert heading(browser, "rows", "median ms").get_attribute("aria-sort") == "ascending"
    up = values(browser, "rows", "median ms")
    assert (up[0], up[-1]) == ("5.000", "100.0") and [float(value) for value in up] == sorted(map(float, before))
    button.click()
    assert heading(browser, "rows", "median ms").get_attribute("aria-sort") == "descending"
    assert values(browser, "rows", "median ms") == up[::-1]
    # The row moved as a whole.
    assert (values(browser, "rows", "backend")[0], values(browser, "rows", "vs effgen")[0]) == ("pytorch", "20.00x")


def test_missing_values_stay_last(browser: Chrome) -> None:
    button = heading(browser, "rows", "size").find_element(By.TAG_NAME, "button")
    for _ in range(2):
        button.click()
        sizes = values(browser, "rows", "size")
        assert sizes[-1] == "" and all(sizes[:-1])


def test_keyboard_sorts_text(browser: Chrome) -> None:
    button = heading(browser, "rows", "backend").find_element(By.TAG_NAME, "button")
    button.send_keys(Keys.ENTER)
    assert values(browser, "rows", "backend") == sorted(values(browser, "rows", "backend"))
    heading(browser, "rows", "threads").find_element(By.TAG_NAME, "button").send_keys(Keys.SPACE)
    assert values(browser, "rows", "threads")[0] == "1"
    assert heading(browser, "rows", "backend").get_attribute("aria-sort") is None


def ground(browser: Chrome) -> str:
    return str(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))


def ink_of_charts(browser: Chrome) -> str:
    return str(browser.execute_script("return document.querySelector('.plot')._fullLayout.font.color"))


def test_switch_to_dark_and_back(browser: Chrome) -> None:
    switch = browser.find_element(By.ID, "theme")
    light, ink = ground(browser), ink_of_charts(browser)
    assert switch.get_attribute("aria-pressed") == "false"
    switch.click()
    assert switch.get_attribute("aria-pressed") == "true"
    assert ground(browser) != light and ink_of_charts(browser) != ink
    switch.click()
    assert (ground(browser), ink_of_charts(browser)) == (light, ink)


def test_follows_the_system(browser: Chrome, page: Path) -> None:
    light = ground(browser)
    show(browser, page, 1200, 1000, dark=True)
    assert ground(browser) != light
    assert browser.find_element(By.ID, "theme").get_attribute("aria-pressed") == "true"


def drawn(browser: Chrome, chart: str) -> dict[str, Any]:
    """Of a chart's drawing: its size, and how many points or bars there are of each trace."""
    script = """
        const plot = document.querySelector(`figure[data-chart="${arguments[0]}"] .plot`);
        const box = plot.querySelector("svg.main-svg").getBoundingClientRect();
        const marks = [...plot.querySelectorAll("g.trace")].map(
            (trace) => trace.querySelectorAll(".points path, .lines path").length);
        return {width: box.width, height: box.height, marks, traces: plot.data.length};
    """
    found: dict[str, Any] = browser.execute_script(script, chart)
    return found


@pytest.mark.parametrize("chart", CHARTS)
def test_chart_is_drawn(browser: Chrome, chart: str) -> None:
    found = drawn(browser, chart)
    assert found["width"] > 500 and found["height"] > 200
    assert len(found["marks"]) == found["traces"] > 0 and min(found["marks"]) > 0


def test_choosing_another_view(browser: Chrome) -> None:
    figure = browser.find_element(By.CSS_SELECTOR, 'figure[data-chart="phi"]')
    before = figure.find_element(By.TAG_NAME, "figcaption").text
    Select(figure.find_element(By.TAG_NAME, "select")).select_by_index(2)
    after = figure.find_element(By.TAG_NAME, "figcaption").text
    assert before != after and "1 thread," in after
    names = browser.execute_script(
        "return document.querySelector('figure[data-chart=\"phi\"] .plot').data.map((trace) => trace.name)"
    )
    assert names == ["effgen"]


@pytest.mark.parametrize("width", [390, 768])
def test_narrow_window_does_not_scroll_sideways(browser: Chrome, page: Path, width: int) -> None:
    show(browser, page, width, 800)
    found = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert found[1] == width and found[0] <= width
    for chart in CHARTS:
        assert 200 < drawn(browser, chart)["width"] <= width
    # A wide table scrolls inside its box.
    script = "const box = document.querySelector('#rows').parentElement; return [box.scrollWidth, box.clientWidth]"
    boxes = browser.execute_script(script)
    assert boxes[0] > boxes[1]


def test_window_that_becomes_narrow(browser: Chrome) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 800, "deviceScaleFactor": 0, "mobile": False}
    )
    WebDriverWait(browser, 10).until(lambda browser: all(drawn(browser, chart)["width"] <= 390 for chart in CHARTS))
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390


def test_nothing_is_asked_of_a_network(session: Chrome, page: Path) -> None:
    session.get_log("performance")
    show(session, page, 1200, 1000)
    messages = [json.loads(entry["message"])["message"] for entry in session.get_log("performance")]
    asked = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [page.absolute().as_uri()]
    entries = session.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [name for name in entries if not name.startswith("data:")] == []


def test_page_of_a_baseline_search(session: Chrome, tmp_path: Path) -> None:
    write_front(full_report(EVIL), tmp_path / "front", force=False)
    session.get_log("browser")
    show(session, tmp_path / "front" / "report.html", 1200, 1000)
    found = drawn(session, "front")
    assert found["width"] > 500 and len(found["marks"]) == found["traces"] == 3 and min(found["marks"]) > 0
    view = session.find_element(By.CSS_SELECTOR, 'figure[data-chart="front"] select')
    Select(view).select_by_visible_text("all trials")
    assert drawn(session, "front")["traces"] == 4
    heading(session, "candidates", "accuracy").find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert values(session, "candidates", "accuracy") == ["40.00%", "90.00%", "92.00%", "95.00%", ""]
    show(session, tmp_path / "front" / "report.html", 390, 800)
    assert session.execute_script("return document.documentElement.scrollWidth") <= 390
    assert session.get_log("browser") == [] and session.execute_script("return window.owned") is None
