"""Many pictures into a folder: which ones, under which names, what is done already, and the work overlapped."""
