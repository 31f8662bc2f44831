# SPDX-License-Identifier: MIT
"""uvicorn's worker for gunicorn, on treadle's loop: the recipe of docs/python.md."""

from uvicorn_worker import UvicornWorker


class TreadleWorker(UvicornWorker):
    CONFIG_KWARGS = {"loop": "treadle:new_event_loop"}
