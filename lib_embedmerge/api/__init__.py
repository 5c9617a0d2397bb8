"""The HTTP API for scripts, in a web UI and in `embedmerge serve`. Its answers are the JSON of the command line.

    refused_requests   reasons to refuse a request, and their HTTP statuses
    named_files        the files that a request may name
    logins             whether a request has a valid login
    guard              checks around each route: login, size, errors
    schemas            requests and answers, as /docs shows them
    routes             the functions of the routes
    adding             adds the routes to an app
    in_webui           adds them to a web UI, if its own API is on

fastapi and pydantic are only imported when the API is added.
"""

PREFIX = "/embedmerge/v1"
"""The beginning of the paths of all routes."""
