"""One file for each kind of request: what is read, what is returned, and each dialect's errors."""
