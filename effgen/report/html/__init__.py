"""Reports as one HTML file that asks nothing of a network: a page fills its template, `document` puts it together."""
