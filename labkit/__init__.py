"""Tested helpers behind the notebooks of this course on flow matching and diffusion.

Time runs from noise (t=0) to data (t=1); a *field* is any callable `(x, t, y=None) -> tensor shaped like x`;
a *step* is `(x, t, dt) -> x`. With these two joints the main sentence of the course reads

    x_1 = simulate(heun(guided(model, y, w=3.0, null=10)), x_0, ts)

Import what you need from the files: `from labkit.solvers import heun, simulate`. Nothing is imported here,
so `import labkit` is instant.
"""

__version__ = "0.1.0"
