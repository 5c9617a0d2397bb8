"""The tier of tests that run inside a real web UI: install.py, a probe extension, and test_real_host.py."""
