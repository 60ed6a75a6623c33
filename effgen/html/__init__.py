"""A comparison as one HTML file that asks nothing of a network: `page` fills `page.html`, the others draw."""
