"""From a float32 network and some of its images to the same network with codes, and what that costs.

`quantize` does it: which layers compute with codes (`places`), between which numbers a tensor's lie (`ranges`, by
what it held while the network ran: `watching`), those of weights (`weights`), the graph that says so (`rewriting`) and
biases that make up for what rounding shifts (`correction`). `request` is `effgen quantize`, from `images` to the file.
"""
