"""HTTP only: parse the request, call one service function, build the response."""
