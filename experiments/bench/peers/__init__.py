"""What users have besides: scripts that run in environments of their own and know nothing of this project.

Each reads a job from its standard input and measures whenever it is asked; see ``turns``. What it is given, and what it
does with that, is what the peer's own documentation recommends.
"""
