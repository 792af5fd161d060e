"""/v1/search: passages of a tenant's documents that answer a question."""

from typing import Annotated

from fastapi.responses import Response
from pydantic import Field

from producers.accounts.scopes import Scope
from producers.documents import searching
from producers.documents.searching import FoundPassage, SearchMode
from producers.web import answers, routes
from producers.web.access import Acting, needs
from producers.web.bodies import Body

router = routes.router("search")


class SearchRequest(Body):
    """A question."""

    query: str = Field(min_length=1, max_length=16_000, examples=["When does the sea rise?"])
    k: int = Field(10, ge=1, le=1_000, description="Maximum results.")
    mode: SearchMode = "hybrid"


Passage = answers.model_of(FoundPassage, name="Passage")
PassageList = answers.list_of(Passage, name="PassageList")


@router.post("", response_model=PassageList)
def search_documents(
    body: SearchRequest, acting: Annotated[Acting, needs(Scope.SEARCH_READ)]
) -> Response:
    """Search documents, best first; each hit quotes `content` from `start` to `end`."""
    found = searching.find(acting.tenant, body.query, k=body.k, mode=body.mode)
    return answers.ok_list(found)
