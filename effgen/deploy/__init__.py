"""A bundle beyond this process: effgen-run, a C library, an archive, a device."""
