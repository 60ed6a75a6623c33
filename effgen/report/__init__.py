"""Reports as tables, lines, JSON and pages. Nothing is measured or decided here."""
