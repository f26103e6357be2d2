"""Programs for the load tests: servers on a loop, and clients that know nothing of loops."""
