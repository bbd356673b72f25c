"""The enlarging of one file or of many: what is asked, and reading, computing and writing overlapped."""
