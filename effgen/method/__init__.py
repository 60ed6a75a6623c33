"""The paper's method on top of the compiler: what a network costs, fits, learns, and searching for one."""
