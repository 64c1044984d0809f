"""Text of other people in figures: names of classes, columns and datasets, in which a dollar begins no formula."""

import matplotlib

AS_WRITTEN = matplotlib.rc_context({"text.parse_math": False})  # decorates whatever draws and saves such a figure
