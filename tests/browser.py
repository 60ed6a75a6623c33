"""A headless Chromium that asks nobody for anything, for tests of pages and for pictures of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from selenium.webdriver import Chrome, ChromeOptions, ChromeService

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars", "--force-color-profile=srgb",
)  # fmt: skip


def missing_program() -> str | None:
    """What has to be installed first; None where nothing has."""
    return next((name for name in ("chromium", "chromedriver") if shutil.which(name) is None), None)


@contextmanager
def chromium(scale: float = 1.0) -> Iterator[Chrome]:
    """A browser with a new profile; closed, and its profile removed, when the block ends."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert program is not None and driver is not None
    with TemporaryDirectory(prefix="effgen-browser-") as profile:
        options = ChromeOptions()
        options.binary_location = program
        for flag in (*FLAGS, f"--user-data-dir={profile}", f"--force-device-scale-factor={scale}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        # The driver's path is given: nothing looks for one elsewhere.
        browser = Chrome(options=options, service=ChromeService(driver))
        try:
            yield browser
        finally:
            browser.quit()


def show(browser: Chrome, page: Path, width: int, height: int, dark: bool = False) -> None:
    """Open a file in a window of this inner size (a phone's too, which no real window is as narrow as)."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 0, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(page.absolute().as_uri())
