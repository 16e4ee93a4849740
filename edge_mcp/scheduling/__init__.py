"""When which calls run, how many as one, and which are refused."""
