"""The sockets that the HTTP server listens on: one process's own, or one of several."""

import socket


def reserve(host: str, port: int) -> socket.socket:
    """Take an address for processes that are to share it.

    Until the socket is closed nobody but this user's processes can listen there; it does not listen
    itself, so that no connection waits for an answer from here.

    Args:
        host: The address to listen on.
        port: 0 takes a free one.

    Raises:
        OSError: The address is taken, be it by a server of ours that shares its port as well.
    """
    with bound(host, port, shared_port=False) as alone:
        port = alone.getsockname()[1]
    return bound(host, port, shared_port=True)


def bound(host: str, port: int, *, shared_port: bool) -> socket.socket:
    """Return a socket that is bound and does not listen yet.

    Args:
        host: The address.
        port: 0 takes a free one.
        shared_port: Whether others of this user may bind to it too.

    Raises:
        OSError: The address is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends at once, without waiting for acknowledgements, where the protocol is named.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared_port:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made
