"""A picture of an HTML report, by headless Chromium: what docs/figures shows of `effgen compare -o`.

    python benchmarks/screenshot.py report.html docs/figures/compare_report.png
    python benchmarks/screenshot.py report.html phone.png --width 390 --height 2400 --dark

Needs the packages `chromium` and `chromium-driver`, and Selenium and Pillow (extra `dev`). The picture gets a palette
of 256 colours, which such a page can do with.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from browser import chromium, missing_program, show

#: Plotly draws at once; a web font or a transition would need longer.
_SETTLE = "const done = arguments[0]; setTimeout(() => requestAnimationFrame(done), 300)"
_SCROLL = "document.getElementById(arguments[0]).scrollIntoView({behavior: 'instant'})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--width", type=int, default=1200, help="of the window, in CSS pixels")
    parser.add_argument("--height", type=int, default=1500)
    parser.add_argument("--scroll", default="", metavar="ID", help="begin at this section, e.g. phi")
    parser.add_argument("--scale", type=float, default=1.0, help="pixels of the picture a CSS pixel")
    parser.add_argument("--dark", action="store_true")
    options = parser.parse_args()
    missing = missing_program()
    if missing is not None:
        raise SystemExit(f"error: {missing}: not found; apt-get install chromium chromium-driver")
    with chromium(options.scale) as browser:
        show(browser, options.report, options.width, options.height, options.dark)
        if options.scroll:
            browser.execute_script(_SCROLL, options.scroll)
        browser.execute_async_script(_SETTLE)
        picture = Image.open(io.BytesIO(browser.get_screenshot_as_png()))
    picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(options.picture, optimize=True)


if __name__ == "__main__":
    main()
