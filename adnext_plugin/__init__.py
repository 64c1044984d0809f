"""AD-NeXt classifiers of 3D brain scans as a plugin for nnU-Net v2."""

from importlib.metadata import version

__version__ = version("adnext_plugin")
