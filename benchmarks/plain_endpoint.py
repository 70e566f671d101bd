"""What a good engineer writes in an afternoon: a FastAPI endpoint around sentence-transformers' `CrossEncoder`.

    python benchmarks/plain_endpoint.py FOLDER PORT MAX_LENGTH

Answers ``POST /rerank`` as TEI does. `predict` is called at its defaults, in the threads that FastAPI gives to
endpoints that are no coroutines.
"""

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers.cross_encoder import CrossEncoder

from zhichun.core.tasks import TASKS


class Body(BaseModel):
    """A query and the texts to rerank."""

    query: str
    texts: list[str]


def create_app(folder: str, max_length: int) -> FastAPI:
    app, model = FastAPI(), CrossEncoder(folder, device="cpu", max_length=max_length, trust_remote_code=False)

    @app.get("/health")
    def health() -> str:
        return "ready"

    @app.post("/rerank")
    def rerank(body: Body) -> list[dict[str, float]]:
        logits_PC = model.predict([(body.query, text) for text in body.texts], show_progress_bar=False)
        scores = TASKS["esci"].predict(logits_PC).score.tolist()
        order = sorted(range(len(scores)), key=lambda place: -scores[place])
        return [{"index": place, "score": scores[place]} for place in order]

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(sys.argv[1], int(sys.argv[3])), port=int(sys.argv[2]), log_level="warning")
