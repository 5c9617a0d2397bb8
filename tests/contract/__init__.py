"""What every host must do (checks.py), said once for the hosts of the tests and for real web UIs. No pytest here."""
