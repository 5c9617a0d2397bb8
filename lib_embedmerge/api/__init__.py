"""The HTTP API for scripts, in a web UI and in `embedmerge serve`: requests in, the JSON of the command line out.

    refusals   why a request is refused, as an HTTP status
    paths      which files a request may name
    logins     whether a request brings a login that is known
    guard      what is done around each route: login, size, errors
    models     requests and answers, as /docs shows them
    calls      what each route does
    adding     the routes in an app
    webui      the same in a web UI, where that has an API

fastapi and pydantic are imported when the API is added, and nowhere else.
"""

PREFIX = "/embedmerge/v1"
"""What the paths of all routes begin with."""
