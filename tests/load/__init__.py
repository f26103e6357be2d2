"""Programs for test_tcp_load: servers on a loop, and clients that know nothing of loops."""
