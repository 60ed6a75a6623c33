"""Files as effgen writes and reads them: whole or not at all, line by line, strictly."""
