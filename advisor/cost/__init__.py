"""Cost: what a decode takes on this machine with this build. It depends on files and hardware, never on acceptance."""
