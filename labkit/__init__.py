"""Tested helpers behind the notebooks of this course on flow matching and diffusion.

Time runs from noise (t=0) to data (t=1). A *model* is a callable `(x, t, y=None) -> tensor shaped like x`, a *field*
`(x, t) -> tensor shaped like x`, a *step* `(x, t, s) -> x at time s`; so the main sentence of the course reads

    x_1 = simulate(heun(guided(model, y, w=3.0)), x_0, ts)

Import from the rooms: `from labkit.flow import guided, heun, simulate`. Each room, a folder beside this file, says in
its `__init__.py` what it is for and what goes there; inside the package imports name the file, and go down only.
Nothing is imported here, so `import labkit` is instant.
"""

__version__ = "0.1.0"
