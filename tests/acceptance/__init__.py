"""What the desk promises, held against real processes that are really killed.

``worlds`` serves an AWS and an exchange, each from a process of its own that copies itself by forking: a copy is a snapshot that costs
milliseconds. ``worker`` runs one tick in a process of its own and may end it with SIGKILL at any request. ``matrix`` drives both.
"""
