"""Real programs on velodrome, unmodified, with real clients over real sockets."""
