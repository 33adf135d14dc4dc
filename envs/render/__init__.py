"""Scenes of MuJoCo as pixels: an OpenGL that works, and a renderer that is quick on software rasterisers."""
