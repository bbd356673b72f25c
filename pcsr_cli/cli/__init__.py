"""The command line: parse, call, print. One file a command; nothing here imports torch before it computes."""
