"""HTTP only: parse the request, call one service, answer."""
