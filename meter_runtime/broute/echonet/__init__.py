"""ECHONET Lite as a low-voltage smart meter speaks it: frames, maps, objects and the node."""
