"""The floor of `ailydian bench http`: uvicorn and FastAPI, which read the same body and answer."""

import signal
import sys
import threading

from fastapi import FastAPI

from producers.web.ledger.publications import JobRequest
from producers.web.server import serve

app = FastAPI()


@app.post("/v1/jobs")
def echo(body: JobRequest) -> dict[str, object]:
    """Answer as long a document as a published job has."""
    return {"id": f"{body.job:>36}", "duplicate": False, "state": "PENDING"}


if __name__ == "__main__":
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    serving = serve(app, host="127.0.0.1", port=int(sys.argv[1]))
    stop.wait()
    serving.stop()
