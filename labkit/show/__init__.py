"""Showing: figures, curves, diagrams, pictures as bytes, and widgets that turn one of them under the reader's hand.

A new figure draws what it is given into an `ax`, in the file of its subject: curves, the plane, images, diagrams.
A new widget is a function that returns `Dials`.
"""

from labkit.show.curves import frechet_curve, loss_curve, quality_curve, tradeoff_curve
from labkit.show.diagrams import generators_diagram, unet_diagram
from labkit.show.dials import Dials, Frame
from labkit.show.explorer import guidance_explorer, turn_w
from labkit.show.figures import image_grid, tile, use_style
from labkit.show.pictures import show, show_gif, to_gif, to_png
from labkit.show.plane import CLASS_COLOURS, arrows, cloud, density, guided_cloud, mesh, reach, routes, triptych
