"""The same numbers, sooner: networks prepared once for the machine they run on.

The plain networks in ``nets`` and ``model`` stay the readable definition; tests hold what is here to them.
"""
