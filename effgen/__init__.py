"""effgen: a baseline ConvNet plus one number, phi, compiled to a verified native library.

The package imports nothing heavy: `effgen.load` needs only numpy and the TVM runtime.
"""

from effgen.errors import EffgenError
from effgen.version import __version__

__all__ = ["EffgenError", "__version__"]
