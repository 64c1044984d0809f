"""From a scan's grid to the network's."""
