"""What a fuzzer may feed the handlers with, and the inputs that were worth keeping."""
