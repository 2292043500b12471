"""A driver that has run a task and does nothing, for the bench to look at what its cluster takes."""

import time

from stand import api, ask, say, start


@api.remote
def nothing():
    pass


start()
api.get(nothing.remote())
time.sleep(3)
ask("idle")
say("idle")
api.shutdown()
