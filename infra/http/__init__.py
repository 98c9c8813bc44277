"""HTTP over aiohttp: one server with limits and deadlines for its connections, and one form of errors.

A service makes its `aiohttp.web.Application`, gives it to an `HttpServer`, starts that at its port, and stops it at
the end.
"""

from weir.infra.http.budget import ANSWERS, COUNTED, AnswerBudget, Budget, Shared
from weir.infra.http.errors import error_body, error_response
from weir.infra.http.limits import HttpLimits
from weir.infra.http.server import HttpServer

__all__ = [
    "ANSWERS",
    "COUNTED",
    "AnswerBudget",
    "Budget",
    "HttpLimits",
    "HttpServer",
    "Shared",
    "error_body",
    "error_response",
]
